//! Guidance kept on disk: a teacher is asked once about each clean training recording.
//!
//! One `safetensors` file a teacher and set of utterances: `starts` i64 `[n + 1]`, `log_probs` f16 `[frames, V]`,
//! perhaps `hidden` f16 `[frames, C]`. Its metadata holds a SHA-256 over all that the answers depend on (the teacher's
//! recipe and weights, the utterances, what was asked), so that nothing stale is ever used, and one over the data.

use super::guide::{Guidance, Guide, Live, Maker};
use crate::config::{DistillConfig, GuideView, ObjectiveKind};
use crate::data::batch::Pick;
use crate::data::loader::Examples;
use crate::data::task::TaskData;
use crate::graph::exec::Engine;
use crate::teacher::ask::{Aligner, Question, Teacher};
use crate::train::checkpoint::{hex, write_atomically};
use crate::train::step::Extras;
use crate::{Error, ErrorKind, Result};
use acolyte::Tokens;
use half::f16;
use ndarray::{Array2, Axis};
use rayon::prelude::*;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Questions asked at a time.
const BATCH: usize = 64;

/// The guide that `config` asks for, from the teacher in `run`. Kept answers lie in `folder`; `delay` is the
/// student's, in output frames.
///
/// # Errors
/// What opening and asking the teacher report; [`ErrorKind::Io`] where the answers cannot be written.
pub fn prepare(
    engine: &Engine,
    run: &Path,
    data: &dyn TaskData,
    config: &DistillConfig,
    delay: usize,
    folder: &Path,
) -> Result<(Guide, usize)> {
    let hidden = config
        .objectives
        .iter()
        .any(|objective| objective.kind == ObjectiveKind::Hidden);
    let extras = Extras {
        hidden,
        attention: false,
    };
    let mut teacher = Teacher::open(engine, run, extras)?;
    let channels = teacher.hidden_channels();
    let tokens = Arc::new(Tokens::new(teacher.settled().tokens.clone())?);
    let maker = Maker::new(config, &tokens)?;
    if config.view == GuideView::Same {
        let live = Live {
            teacher: Mutex::new(teacher),
            maker,
            delay,
        };
        return Ok((Guide::Live(Box::new(live)), channels));
    }
    if !data.is_fixed() {
        return Err(Error::new(
            ErrorKind::Recipe,
            "distill.view = \"clean\" keeps what the teacher says of every training item, and rendered words are others \
             in each epoch: use view = \"same\"",
        ));
    }
    let examples = data.plain(teacher.settled())?;
    let key = key(&teacher, data, config, hidden)?;
    let path = folder.join(format!("guidance-{}.safetensors", &key[..16]));
    let mut kept = match std::fs::read(&path) {
        Ok(bytes) => read(&bytes, &key),
        Err(_) => None,
    };
    if kept.is_none() {
        let fresh = ask_all(&mut teacher, &*examples, &maker)?;
        std::fs::create_dir_all(folder).map_err(|error| Error::io(folder, error))?;
        write_atomically(&path, &bytes(&fresh, &key)?)?;
        // What is used is what a later sitting will read: f16 throughout.
        kept = read(
            &std::fs::read(&path).map_err(|error| Error::io(&path, error))?,
            &key,
        );
    }
    let mut kept = kept.ok_or_else(|| {
        Error::new(
            ErrorKind::Checkpoint,
            "the guidance just written cannot be read",
        )
        .with_path(&path)
    })?;
    kept.par_iter_mut().try_for_each(|guidance| -> Result<()> {
        guidance.readings = maker.readings(guidance.log_probs.view())?;
        Ok(())
    })?;
    Ok((
        Guide::Kept(kept.into_iter().map(Arc::new).collect()),
        channels,
    ))
}

/// SHA-256 over what the answers depend on.
fn key(
    teacher: &Teacher,
    data: &dyn TaskData,
    config: &DistillConfig,
    hidden: bool,
) -> Result<String> {
    let mut hasher = Sha256::new();
    hasher.update(teacher.identity());
    hasher.update(format!("{:?} {hidden} 1", config.guide));
    let settled = serde_json::to_string(teacher.settled())
        .map_err(|error| Error::new(ErrorKind::Checkpoint, error.to_string()))?;
    hasher.update(settled);
    hasher.update(data.identity());
    Ok(hex(&hasher.finalize()))
}

/// Questions about the items of a set, as it is.
///
/// # Errors
/// What loading reports.
pub(crate) fn questions(
    examples: &dyn Examples,
    items: impl IntoIterator<Item = usize>,
) -> Result<Vec<Question>> {
    let items: Vec<usize> = items.into_iter().collect();
    items
        .into_par_iter()
        .map(|item| {
            let example = examples.load(Pick { item, copy: 0 }, 0)?;
            Ok(Question {
                features: example.features.index_axis(Axis(1), 0).to_owned(),
                targets: example.targets,
                name: example.name,
            })
        })
        .collect()
}

fn ask_all(teacher: &mut Teacher, examples: &dyn Examples, maker: &Maker) -> Result<Vec<Guidance>> {
    let mut all = Vec::with_capacity(examples.len());
    for first in (0..examples.len()).step_by(BATCH) {
        let questions = questions(examples, first..(first + BATCH).min(examples.len()))?;
        let answers = teacher.ask(&questions)?;
        for (answer, question) in answers.iter().zip(&questions) {
            all.push(Guidance {
                log_probs: maker.log_probs(answer, question)?,
                hidden: answer.hidden.as_ref().map(|h| h.mapv(f16::from_f32)),
                readings: Vec::new(),
            });
        }
    }
    Ok(all)
}

/// The file's bytes.
fn bytes(all: &[Guidance], key: &str) -> Result<Vec<u8>> {
    let mut starts = vec![0i64];
    let mut scores = Vec::new();
    let mut hidden = Vec::new();
    for guidance in all {
        let last = starts.last().copied().unwrap_or(0);
        starts.push(last + guidance.log_probs.nrows() as i64);
        scores.extend(
            guidance
                .log_probs
                .iter()
                .flat_map(|&x| f16::from_f32(x).to_le_bytes()),
        );
        if let Some(values) = &guidance.hidden {
            hidden.extend(values.iter().flat_map(|x| x.to_le_bytes()));
        }
    }
    let frames = starts.last().copied().unwrap_or(0) as usize;
    let starts: Vec<u8> = starts.iter().flat_map(|x| x.to_le_bytes()).collect();
    let digest = digest(&starts, &scores, &hidden);
    let per_frame = |bytes: &[u8]| bytes.len() / 2 / frames.max(1);
    let fail = |error: safetensors::SafeTensorError| {
        Error::new(ErrorKind::Checkpoint, format!("guidance: {error}"))
    };
    let mut views = vec![
        (
            "log_probs",
            TensorView::new(Dtype::F16, vec![frames, per_frame(&scores)], &scores).map_err(fail)?,
        ),
        (
            "starts",
            TensorView::new(Dtype::I64, vec![starts.len() / 8], &starts).map_err(fail)?,
        ),
    ];
    if !hidden.is_empty() {
        let shape = vec![frames, per_frame(&hidden)];
        views.push((
            "hidden",
            TensorView::new(Dtype::F16, shape, &hidden).map_err(fail)?,
        ));
    }
    let metadata = HashMap::from([
        ("key".to_owned(), key.to_owned()),
        ("sha256".to_owned(), digest),
    ]);
    safetensors::serialize(views, Some(metadata)).map_err(fail)
}

fn digest(starts: &[u8], scores: &[u8], hidden: &[u8]) -> String {
    let mut hasher = Sha256::new();
    for part in [starts, scores, hidden] {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hex(&hasher.finalize())
}

/// What a file holds; None where it is of another teacher, or damaged: it is then written anew.
fn read(bytes: &[u8], key: &str) -> Option<Vec<Guidance>> {
    let (_, metadata) = SafeTensors::read_metadata(bytes).ok()?;
    let file = SafeTensors::deserialize(bytes).ok()?;
    let entries = metadata.metadata().as_ref()?;
    let starts = file.tensor("starts").ok()?;
    let scores = file.tensor("log_probs").ok()?;
    let hidden = file.tensor("hidden").ok();
    let hidden_bytes = hidden.as_ref().map_or(&[][..], |view| view.data());
    let digest = digest(starts.data(), scores.data(), hidden_bytes);
    if entries.get("key")? != key || entries.get("sha256")? != &digest {
        return None;
    }
    let rows = |view: &TensorView<'_>| -> Option<Array2<f16>> {
        let &[frames, width] = view.shape() else {
            return None;
        };
        let values = view.data().as_chunks::<2>().0;
        let values = values.iter().map(|&b| f16::from_le_bytes(b)).collect();
        Array2::from_shape_vec((frames, width), values).ok()
    };
    let scores = rows(&scores)?;
    let hidden = match &hidden {
        Some(view) => Some(rows(view)?),
        None => None,
    };
    let starts: Vec<usize> = starts
        .data()
        .as_chunks::<8>()
        .0
        .iter()
        .map(|&b| usize::try_from(i64::from_le_bytes(b)).ok())
        .collect::<Option<_>>()?;
    let ordered = starts.windows(2).all(|pair| pair[0] <= pair[1]);
    if !ordered || starts.last() != Some(&scores.nrows()) {
        return None;
    }
    let part = |all: &Array2<f16>, pair: &[usize]| {
        all.slice_axis(Axis(0), (pair[0]..pair[1]).into())
            .to_owned()
    };
    Some(
        starts
            .windows(2)
            .map(|pair| Guidance {
                log_probs: part(&scores, pair).mapv(f16::to_f32),
                hidden: hidden.as_ref().map(|all| part(all, pair)),
                readings: Vec::new(),
            })
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guidance(frames: usize) -> Guidance {
        Guidance {
            log_probs: Array2::from_shape_fn((frames, 3), |(t, v)| -((t + 2 * v) as f32) / 4.0),
            hidden: Some(Array2::from_shape_fn((frames, 2), |(t, c)| {
                f16::from_f32((t * 2 + c) as f32)
            })),
            readings: Vec::new(),
        }
    }

    #[test]
    fn what_is_kept_comes_back() {
        let all = vec![guidance(4), guidance(0), guidance(7)];
        let bytes = bytes(&all, "key").unwrap();
        assert_eq!(read(&bytes, "key").unwrap(), all);
    }

    #[test]
    fn stale_and_damaged_files_are_not_used() {
        let mut bytes = bytes(&[guidance(4)], "key").unwrap();
        assert!(read(&bytes, "another").is_none());
        assert!(read(&bytes[..bytes.len() - 1], "key").is_none());
        assert!(read(b"", "key").is_none());
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        assert!(read(&bytes, "key").is_none());
    }
}
