//! Integration tests of the whole workspace, one binary, one module a subject.

mod cli;
mod models;
mod offline;
mod training;
