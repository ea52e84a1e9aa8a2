//! Trains, distills and exports CTC students on ONNX Runtime.
#![forbid(unsafe_code)]

pub mod bench;
pub mod check;
pub mod config;
pub mod data;
pub mod distill;
mod error;
pub mod export;
pub mod fixed;
pub mod graph;
pub mod inspect;
pub mod lm;
pub mod loss;
pub mod network;
pub mod nn;
pub mod onnx;
pub mod optim;
pub mod pipeline;
pub mod prepare;
pub mod proof;
pub mod report;
mod simd;
pub mod student;
pub mod synth;
pub mod teacher;
pub mod train;

pub use error::{Error, ErrorKind, Result};
