//! Integration tests of the whole workspace, one binary, one module a subject.

#![allow(clippy::unwrap_used)] // A test that unwraps fails with the line that did it.

mod adopt;
mod adopt_refused;
mod adopt_streaming;
mod camera;
mod cli;
mod decoding;
mod distill;
mod letters;
#[cfg(feature = "mic")]
mod mic;
mod models;
mod offline;
mod scene_text;
mod streaming;
mod training;
