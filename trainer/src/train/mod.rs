//! The training loop and what it needs: rows of packed utterances, the compiled step, checkpoints, metrics.

pub mod averaging;
pub mod checkpoint;
pub mod cost;
mod device;
pub mod evaluate;
pub mod events;
pub mod feed;
mod host;
pub mod learner;
pub mod log;
pub mod pack;
pub mod records;
pub mod run;
pub mod start;
pub mod step;
pub mod supervise;
