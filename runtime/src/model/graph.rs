//! Runs an ONNX file without a spec: one f32 tensor in, one out. For models that users bring.

use super::header::ModelHeader;
use super::ort::{commit_bytes, failed, session_builder};
use super::pool::Pool;
use super::provider::candidates;
use super::{Library, OrtOptions, Provider};
use crate::{Error, ErrorKind, Result};
use ::ort::session::Session;
use ::ort::value::TensorRef;
use std::sync::Arc;

/// A graph ready to run. Clones share weights and sessions.
#[derive(Debug, Clone)]
pub struct OrtGraph {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    library: Library,
    bytes: Vec<u8>,
    options: OrtOptions,
    used: Provider,
    input: String,
    output: String,
    sessions: Pool<Session>,
}

impl OrtGraph {
    /// Opens a model held in memory on the first provider that takes it.
    ///
    /// # Errors
    /// [`ErrorKind::Model`] for bytes that are no ONNX model or that ONNX Runtime refuses,
    /// [`ErrorKind::Unsupported`] for a graph with several inputs, [`ErrorKind::Provider`] if a named provider is not
    /// available.
    pub fn from_bytes(library: &Library, bytes: Vec<u8>, options: &OrtOptions) -> Result<Self> {
        let header = ModelHeader::read(&bytes)?;
        let (input, output) = match (&header.inputs[..], header.outputs.first()) {
            ([input], Some(output)) => (input.name.clone(), output.name.clone()),
            (inputs, _) => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!("the graph has {} inputs, expected one image", inputs.len()),
                ));
            }
        };
        let mut refused = None;
        for used in candidates(library, options.provider)? {
            let session = session_builder(library, options, used)
                .map_err(|e| failed(ErrorKind::Provider, &format!("provider {used}"), e))
                .and_then(|builder| commit_bytes(builder, &bytes));
            match session {
                Ok(session) => {
                    return Ok(Self {
                        shared: Arc::new(Shared {
                            library: library.clone(),
                            bytes,
                            options: options.clone(),
                            used,
                            input,
                            output,
                            sessions: Pool::new(options.pool.max(1), session),
                        }),
                    });
                }
                Err(error) => refused = Some(error),
            }
        }
        Err(refused.unwrap_or_else(|| Error::new(ErrorKind::Provider, "no provider to try")))
    }

    /// What runs it.
    pub fn provider(&self) -> Provider {
        self.shared.used
    }

    /// Runs the graph on `data` of `shape`; the output's shape and numbers.
    ///
    /// # Errors
    /// [`ErrorKind::Inference`] if the run fails, or the output is not f32 or holds NaN.
    pub fn run(&self, shape: &[usize], data: &[f32]) -> Result<(Vec<usize>, Vec<f32>)> {
        let shared = &*self.shared;
        let make = || {
            let builder = session_builder(&shared.library, &shared.options, shared.used)
                .map_err(|e| failed(ErrorKind::Provider, "a session", e))?;
            commit_bytes(builder, &shared.bytes)
        };
        shared.sessions.with(make, |session| {
            let shape: Vec<i64> = shape.iter().map(|&n| n as i64).collect();
            let view = TensorRef::from_array_view((shape, data))
                .map_err(|e| failed(ErrorKind::Inference, "the input", e))?;
            let outputs = session
                .run(::ort::inputs![shared.input.as_str() => view])
                .map_err(|e| failed(ErrorKind::Inference, "the run", e))?;
            let missing = || Error::new(ErrorKind::Inference, "the run gave no output");
            let (shape, numbers) = (outputs.get(&shared.output).ok_or_else(missing)?)
                .try_extract_tensor::<f32>()
                .map_err(|e| failed(ErrorKind::Inference, "the output", e))?;
            if numbers.iter().any(|x| x.is_nan()) {
                return Err(Error::new(ErrorKind::Inference, "the output holds NaN"));
            }
            let shape = shape
                .iter()
                .map(|&n| usize::try_from(n).unwrap_or_default());
            Ok((shape.collect(), numbers.to_vec()))
        })
    }
}
