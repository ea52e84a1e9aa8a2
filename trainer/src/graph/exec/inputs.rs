//! What is fed to a compiled graph, whether its tensors stay where they are or are carried from run to run.

use super::{Executable, Resident};
use crate::Result;

/// Inputs that are fed at every run, by name; each method fails with [`crate::ErrorKind::Graph`] for a name that the
/// graph has not.
pub trait Inputs {
    /// The elements of an f32 input.
    ///
    /// # Errors
    /// See [`Inputs`].
    fn f32_mut(&mut self, name: &str) -> Result<&mut [f32]>;

    /// The elements of an i32 input.
    ///
    /// # Errors
    /// See [`Inputs`].
    fn i32_mut(&mut self, name: &str) -> Result<&mut [i32]>;

    /// The elements of an i64 input.
    ///
    /// # Errors
    /// See [`Inputs`].
    fn i64_mut(&mut self, name: &str) -> Result<&mut [i64]>;
}

macro_rules! inputs {
    ($of:ty) => {
        impl Inputs for $of {
            fn f32_mut(&mut self, name: &str) -> Result<&mut [f32]> {
                <$of>::f32_mut(self, name)
            }
            fn i32_mut(&mut self, name: &str) -> Result<&mut [i32]> {
                <$of>::i32_mut(self, name)
            }
            fn i64_mut(&mut self, name: &str) -> Result<&mut [i64]> {
                <$of>::i64_mut(self, name)
            }
        }
    };
}

inputs!(Executable);
inputs!(Resident);
