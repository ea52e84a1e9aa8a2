//! Integration tests of the whole workspace, one binary, one module a subject.

mod training;
