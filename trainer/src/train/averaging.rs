//! Checkpoint averaging: the judged weights of a few epochs are kept in `epochs/`, and their mean is tried when the run
//! ends.
//!
//! Which epochs are kept stands in the checkpoint, so that an interrupted run ends with the same ones; files are removed
//! only after a checkpoint that no longer names them was written.

use super::checkpoint::{Checkpoint, Position};
use super::learner::Tensors;
use crate::config::{AverageConfig, AverageOf};
use crate::optim::mean_weights;
use crate::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// An epoch whose weights are kept.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// The epoch, from 0.
    pub epoch: u64,
    /// Its figure on the development sets: lower is better.
    pub figure: f64,
}

/// Whose weights are kept once `new` was judged, in the order of the epochs.
pub fn choose(mut kept: Vec<Kept>, new: Kept, config: AverageConfig) -> Vec<Kept> {
    kept.retain(|other| other.epoch != new.epoch);
    kept.push(new);
    if config.of == AverageOf::Best {
        kept.sort_by(|a, b| a.figure.total_cmp(&b.figure).then(a.epoch.cmp(&b.epoch)));
        kept.truncate(config.epochs);
    }
    kept.sort_by_key(|kept| kept.epoch);
    let first = kept.len().saturating_sub(config.epochs);
    kept.split_off(first)
}

fn folder(run: &Path) -> PathBuf {
    run.join("epochs")
}

fn path(run: &Path, epoch: u64) -> PathBuf {
    folder(run).join(format!("epoch-{:04}.safetensors", epoch + 1))
}

/// Keeps an epoch's weights in the run's folder.
///
/// # Errors
/// [`ErrorKind::Io`] naming the file.
pub fn save(run: &Path, position: &Position, tensors: Tensors) -> Result<()> {
    let folder = folder(run);
    std::fs::create_dir_all(&folder).map_err(|error| Error::io(&folder, error))?;
    let checkpoint = Checkpoint {
        position: position.clone(),
        tensors,
    };
    checkpoint.save_alone(&path(run, position.epoch))
}

/// Removes the weights of epochs that are not among `kept`. Best effort: a file too many does no harm.
pub fn prune(run: &Path, kept: &[Kept]) {
    let wanted: Vec<PathBuf> = kept.iter().map(|kept| path(run, kept.epoch)).collect();
    for entry in std::fs::read_dir(folder(run))
        .into_iter()
        .flatten()
        .flatten()
    {
        if !wanted.contains(&entry.path()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// The mean of the kept epochs' weights.
///
/// # Errors
/// [`ErrorKind::Io`] or [`ErrorKind::Checkpoint`], naming the file that is missing or damaged.
pub fn mean(run: &Path, kept: &[Kept]) -> Result<Tensors> {
    let epochs = kept
        .iter()
        .map(|kept| Ok(Checkpoint::load(&path(run, kept.epoch))?.tensors))
        .collect::<Result<Vec<_>>>()?;
    let Some(first) = epochs.first() else {
        return Ok(Tensors::new());
    };
    first
        .iter()
        .map(|(name, (shape, _))| {
            let parts = epochs
                .iter()
                .map(|tensors| tensors.get(name).map(|(_, data)| data.as_slice()))
                .collect::<Option<Vec<_>>>()
                .ok_or_else(|| {
                    Error::new(
                        ErrorKind::Checkpoint,
                        format!("{name} is not in every epoch's weights"),
                    )
                })?;
            Ok((name.clone(), (shape.clone(), mean_weights(&parts)?)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_or_the_best_are_kept() {
        let figures = [9.0, 3.0, 5.0, 3.0, 8.0, 2.0];
        for (of, expected) in [
            (AverageOf::Last, vec![3, 4, 5]),
            (AverageOf::Best, vec![1, 3, 5]),
        ] {
            let config = AverageConfig { epochs: 3, of };
            let mut kept = Vec::new();
            for (epoch, &figure) in figures.iter().enumerate() {
                let epoch = epoch as u64;
                kept = choose(kept, Kept { epoch, figure }, config);
                // An epoch that is judged again after an interruption counts once.
                let again = choose(kept.clone(), Kept { epoch, figure }, config);
                assert_eq!(again, kept);
            }
            let epochs: Vec<u64> = kept.iter().map(|kept| kept.epoch).collect();
            assert_eq!(epochs, expected, "{of:?}");
        }
    }

    #[test]
    fn kept_weights_are_averaged_and_the_others_removed() {
        let run = tempfile::tempdir().unwrap();
        let kept = [1, 2].map(|epoch| Kept { epoch, figure: 0.0 });
        for (epoch, value) in [(0, 100.0), (1, 1.0), (2, 4.0)] {
            let position = Position {
                epoch,
                ..Position::default()
            };
            let tensors = Tensors::from([("w".to_owned(), (vec![1], vec![value]))]);
            save(run.path(), &position, tensors).unwrap();
        }
        prune(run.path(), &kept);
        assert!(!path(run.path(), 0).exists());
        assert_eq!(mean(run.path(), &kept).unwrap()["w"].1, [2.5]);
        std::fs::write(path(run.path(), 2), b"damaged").unwrap();
        let error = mean(run.path(), &kept).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Checkpoint);
        assert!(error.to_string().contains("epoch-0003"), "{error}");
    }
}
