//! Recognizers: raw input to text, with a model and a decoder behind them.
//!
//! A recognizer knows the task and nothing of an engine: it takes any [`CtcModel`](crate::model::CtcModel),
//! an ONNX file through its builder (feature `onnx`) or a fake. It is `Clone + Send + Sync`; clones share the
//! model.

#[cfg(feature = "onnx")]
mod builder;
mod endpoint;
mod events;
mod front;
#[cfg(test)]
mod laws;
mod offline;
mod streaming;
#[cfg(test)]
pub(crate) mod testing;
mod text;

#[cfg(feature = "onnx")]
pub use builder::{Opened, RecognizerBuilder};
pub use endpoint::EndpointRules;
pub use events::{Event, Samples};
pub use offline::SpeechRecognizer;
pub use streaming::SpeechStream;
pub use text::{Crop, TextRecognizer};

use crate::spec::{ModelSpec, Role, Task};
use crate::{Error, ErrorKind, Result};

/// Whether a recognizer of `task` may use the model.
fn serves(spec: &ModelSpec, task: Task) -> Result<()> {
    let refuse = |message: &str| {
        let name = &spec.name;
        Err(Error::new(
            ErrorKind::Role,
            format!("model {name:?} {message}"),
        ))
    };
    match (spec.task, spec.role) {
        (Task::SceneText, _) if task == Task::Speech => {
            refuse("reads images, not speech: use a speech model")
        }
        (Task::Speech, _) if task == Task::SceneText => {
            refuse("hears speech and reads no images: use a scene-text model")
        }
        (_, Role::OracleTeacher) => refuse(
            "is an oracle teacher: it takes the transcript as an input, so it cannot find one; use a student \
             that it taught",
        ),
        (_, Role::Student | Role::Teacher) => Ok(()),
    }
}
