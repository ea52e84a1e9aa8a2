//! The section `[start_from]` of a recipe: another model's weights to begin with.

use super::{ensure, recipe_error};
use crate::error::Result;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Weights to start from: fine-tuning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartConfig {
    /// The folder of a shipped model (`model.onnx` beside `weights.safetensors`) or of a run, relative to where the
    /// command is called. The recipe's `[features]` and `[model]` must be that model's; its tokens may differ.
    pub model: PathBuf,
    /// Layers whose weights stay as they are: every parameter whose name begins with one of these, in whole parts
    /// (`block.1` is not `block.10`, `block` is all blocks; `acolyte-train inspect` prints the names). Default none.
    /// Batch norm's running statistics follow the new data all the same.
    #[serde(default)]
    pub freeze: Vec<String>,
}

impl StartConfig {
    pub(super) fn validate(&self) -> Result<()> {
        ensure(
            !self.model.as_os_str().is_empty(),
            "start_from.model",
            "empty",
            "the folder of a model or of a run",
        )?;
        if self.freeze.iter().any(String::is_empty) {
            return Err(recipe_error(
                "`start_from.freeze` holds an empty name, which would freeze every layer",
            ));
        }
        Ok(())
    }

    /// Whether the parameter called `name` keeps its weights.
    pub fn freezes(&self, name: &str) -> bool {
        self.freeze.iter().any(|prefix| begins(name, prefix))
    }
}

/// Whether `name` is `prefix` or goes on after it with a dot.
pub(crate) fn begins(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.') || prefix.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_matched_in_whole_parts() {
        for (name, prefix, expected) in [
            ("block.1.first.weight", "block.1", true),
            ("block.10.first.weight", "block.1", false),
            ("block.10.first.weight", "block", true),
            ("block.1.first.weight", "block.1.", true),
            ("stem", "stem", true),
            ("stem", "stem.weight", false),
        ] {
            assert_eq!(begins(name, prefix), expected, "{name} by {prefix}");
        }
    }
}
