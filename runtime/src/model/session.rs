//! Sessions of ONNX Runtime: which provider takes a graph, and with which settings it is loaded.

use super::ort::failed;
use super::provider::{candidates, register};
use super::{CpuNodes, Library, ModelFile, OrtOptions, Provider, ProviderReport};
use crate::{Error, ErrorKind, Result};
use ort::session::Session;
use ort::session::builder::SessionBuilder;
use std::collections::BTreeMap;

/// A session on the first provider that takes the graph, and the report on it.
pub(super) fn first_session(
    library: &Library,
    file: &ModelFile,
    options: &OrtOptions,
) -> Result<(Session, ProviderReport)> {
    let mut declined = Vec::new();
    let tried = candidates(library, options.provider)?;
    for (index, &used) in tried.iter().enumerate() {
        let last = index + 1 == tried.len();
        let session = builder(library, options, used)
            .map_err(|e| failed(ErrorKind::Provider, &format!("provider {used}"), e))
            .and_then(|builder| commit(builder, file));
        match session {
            Ok(session) => {
                let reason = match (options.provider, declined.as_slice()) {
                    (Provider::Auto, []) if used == Provider::Cpu => {
                        "no other provider is in this build and library".to_owned()
                    }
                    (Provider::Auto, []) => "the first that took the graph".to_owned(),
                    (Provider::Auto, declined) => format!("fell back: {}", declined.join("; ")),
                    _ => "as requested".to_owned(),
                };
                let every = || (used == Provider::Cpu).then(|| file.header().nodes());
                let report = ProviderReport {
                    requested: options.provider,
                    used,
                    reason,
                    fell_back: !declined.is_empty(),
                    nodes: every().map(|n| BTreeMap::from([("CPUExecutionProvider".into(), n)])),
                };
                return Ok((session, report));
            }
            Err(error) if last && used == Provider::Cpu => return Err(error),
            Err(error) if last => {
                let message =
                    format!("provider {used} was asked for and did not take the model: {error}");
                return Err(Error::new(ErrorKind::Provider, message).with_source(error));
            }
            Err(error) => declined.push(format!("{used}: {error}")),
        }
    }
    Err(Error::new(ErrorKind::Provider, "no provider to try"))
}

/// What every session of a model is made with.
pub(super) fn builder(
    library: &Library,
    options: &OrtOptions,
    provider: Provider,
) -> ort::Result<SessionBuilder> {
    let cpu_nodes = match options.provider {
        Provider::Auto => CpuNodes::Allow,
        _ => options.cpu_nodes,
    };
    let builder = SessionBuilder::new(library.environment())?
        .with_intra_threads(options.threads)?
        .with_inter_threads(1)?
        // A memory pattern is kept for every length ever seen, and utterances have all lengths.
        .with_memory_pattern(false)?;
    register(builder, provider, cpu_nodes)
}

/// A session of the file's graph.
pub(super) fn commit(mut builder: SessionBuilder, file: &ModelFile) -> Result<Session> {
    builder
        .commit_from_memory(file.bytes())
        .map_err(|e| failed(ErrorKind::Model, "ONNX Runtime refuses the graph", e))
}
