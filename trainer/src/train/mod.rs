//! The training loop and what it needs: rows of packed utterances, the compiled step, checkpoints, metrics.

pub mod checkpoint;
pub mod cost;
pub mod evaluate;
pub mod feed;
pub mod log;
pub mod pack;
pub mod run;
pub mod step;
pub mod supervise;
