//! Checkpoints: everything a run needs to go on exactly, in one `safetensors` file written atomically.
//!
//! The header's metadata holds the run's position as JSON and a SHA-256 over all tensors, so that a file damaged
//! anywhere is refused. A new checkpoint is written beside the old one, flushed, and renamed over it; the old
//! one is kept as `previous`.

use super::averaging::Kept;
use super::learner::Tensors;
use crate::{Error, ErrorKind, Result};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Where a run stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// Batches seen.
    pub step: u64,
    /// Updates made.
    pub updates: u64,
    /// The epoch under way, from 0.
    pub epoch: u64,
    /// Rows of that epoch already used.
    pub row: u64,
    /// Seconds of training so far, over all sittings.
    pub seconds: f64,
    /// Processor time of training so far, in seconds over all threads: it does not depend on what else the machine does.
    #[serde(default)]
    pub processor_seconds: f64,
    /// Best figure on the development sets so far (lower is better).
    pub best: Option<f64>,
    /// Epochs since then.
    #[serde(default)]
    pub waited: u64,
    /// Epochs whose weights are kept to be averaged.
    #[serde(default)]
    pub kept: Vec<Kept>,
    /// What the epoch under way has summed up.
    #[serde(default)]
    pub sums: EpochSums,
    /// Whether the run has come to its end.
    #[serde(default)]
    pub finished: bool,
    /// [`Recipe::identity`](crate::config::Recipe::identity), so that a run is not resumed under another recipe.
    pub recipe: String,
    /// Where the run was to end, in words.
    #[serde(default)]
    pub end: String,
}

/// Sums over an epoch's batches.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochSums {
    /// Losses of the good batches.
    pub loss: f64,
    /// Good batches.
    pub good: usize,
    /// Batches left out since a number was not finite.
    pub skipped: usize,
    /// Those of them since the last good one.
    pub bad_in_a_row: usize,
    /// The utterances of the last of them.
    pub last_bad: String,
    /// Targets that did not fit their frames.
    pub infeasible: usize,
}

/// A checkpoint in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Where the run stands.
    pub position: Position,
    /// Tensors by name: shape and elements.
    pub tensors: Tensors,
}

const POSITION: &str = "position";
const HASH: &str = "sha256";

/// Lower-case hex of a hash.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hash<'a>(tensors: impl Iterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut hasher = Sha256::new();
    for (name, data) in tensors {
        hasher.update((name.len() as u64).to_le_bytes());
        hasher.update(name);
        hasher.update((data.len() as u64).to_le_bytes());
        hasher.update(data);
    }
    hex(&hasher.finalize())
}

/// Writes `bytes` to `path` so that at any moment the path holds the old file or the new one, whole.
///
/// # Errors
/// [`ErrorKind::Io`] naming the file; nothing is left behind then but the old file.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let partial = suffixed(path, "partial");
    let write = || {
        let mut file = std::fs::File::create(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&partial, path)?;
        // The new name survives a power cut only once the folder is flushed too, where the system has that.
        if let Some(Ok(folder)) = path.parent().map(std::fs::File::open) {
            let _ = folder.sync_all();
        }
        Ok(())
    };
    write().map_err(|error| {
        // Best effort: the error that is reported is the write's own.
        let _ = std::fs::remove_file(&partial);
        Error::io(path, error)
    })
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

/// Where the checkpoint before the one at `path` is kept.
pub fn previous(path: &Path) -> PathBuf {
    suffixed(path, "previous")
}

impl Checkpoint {
    /// The file's bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let raw: BTreeMap<&str, Vec<u8>> = self
            .tensors
            .iter()
            .map(|(name, (_, data))| {
                let bytes = data.iter().flat_map(|v| v.to_le_bytes()).collect();
                (name.as_str(), bytes)
            })
            .collect();
        let fail = |error: &dyn std::fmt::Display| {
            Error::new(ErrorKind::Checkpoint, format!("cannot be written: {error}"))
        };
        let position = serde_json::to_string(&self.position).map_err(|e| fail(&e))?;
        let metadata = HashMap::from([
            (POSITION.to_owned(), position),
            (
                HASH.to_owned(),
                hash(raw.iter().map(|(name, data)| (*name, data.as_slice()))),
            ),
        ]);
        let views = self
            .tensors
            .iter()
            .map(|(name, (shape, _))| {
                let data = raw[name.as_str()].as_slice();
                Ok((
                    name.as_str(),
                    TensorView::new(Dtype::F32, shape.clone(), data).map_err(|e| fail(&e))?,
                ))
            })
            .collect::<Result<Vec<_>>>()?;
        serialize(views, Some(metadata)).map_err(|e| fail(&e))
    }

    /// Writes the checkpoint to `path`.
    pub fn save_alone(&self, path: &Path) -> Result<()> {
        write_atomically(path, &self.to_bytes()?)
    }

    /// Puts the checkpoint before the one at `path` in its place, once it has proved whole.
    ///
    /// # Errors
    /// [`ErrorKind::Checkpoint`] or [`ErrorKind::Io`] where there is none or it is damaged too; nothing changes then.
    pub fn go_back(path: &Path) -> Result<()> {
        let kept = previous(path);
        let bytes = std::fs::read(&kept).map_err(|error| Error::io(&kept, error))?;
        Self::from_bytes(&bytes).map_err(|error| error.with_path(&kept))?;
        std::fs::rename(&kept, path).map_err(|error| Error::io(path, error))
    }

    /// Writes the checkpoint to `path`, keeping the one before it.
    pub fn save(&self, path: &Path) -> Result<()> {
        let bytes = self.to_bytes()?;
        if path.exists() {
            let kept = previous(path);
            // A hard link keeps the old file under both names until the rename below replaces one.
            let _ = std::fs::remove_file(&kept);
            std::fs::hard_link(path, &kept)
                .or_else(|_| std::fs::copy(path, &kept).map(|_| ()))
                .map_err(|error| Error::io(&kept, error))?;
        }
        write_atomically(path, &bytes)
    }

    /// Reads a checkpoint and verifies its hash.
    ///
    /// # Errors
    /// [`ErrorKind::Checkpoint`] where the file is damaged; the message names the previous one where it is there.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|error| Error::io(path, error))?;
        Self::from_bytes(&bytes).map_err(|error| {
            let kept = previous(path);
            let advice = if kept.exists() {
                format!(
                    "; the one before it is {}: `acolyte-train train ... --previous` goes on from there",
                    kept.display()
                )
            } else {
                "; there is no earlier one: start the run anew".to_owned()
            };
            Error::new(ErrorKind::Checkpoint, format!("{error}{advice}"))
                .with_path(path)
                .with_source(error)
        })
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let damaged = |what: &str| Error::new(ErrorKind::Checkpoint, format!("damaged: {what}"));
        let (_, metadata) =
            SafeTensors::read_metadata(bytes).map_err(|e| damaged(&e.to_string()))?;
        let file = SafeTensors::deserialize(bytes).map_err(|e| damaged(&e.to_string()))?;
        let entries = metadata
            .metadata()
            .as_ref()
            .ok_or_else(|| damaged("it has no metadata"))?;
        let entry = |key: &str| {
            entries
                .get(key)
                .ok_or_else(|| damaged(&format!("its metadata lacks {key:?}")))
        };
        let position: Position =
            serde_json::from_str(entry(POSITION)?).map_err(|e| damaged(&e.to_string()))?;
        let mut names: Vec<&str> = file.names().into_iter().collect();
        names.sort_unstable();
        let mut tensors = BTreeMap::new();
        let mut raw = Vec::with_capacity(names.len());
        for name in names {
            let view = file.tensor(name).map_err(|e| damaged(&e.to_string()))?;
            if view.dtype() != Dtype::F32 {
                return Err(damaged(&format!("{name} is {:?}, not F32", view.dtype())));
            }
            let data = view
                .data()
                .as_chunks::<4>()
                .0
                .iter()
                .map(|&b| f32::from_le_bytes(b))
                .collect();
            tensors.insert(name.to_owned(), (view.shape().to_vec(), data));
            raw.push((name, view.data().to_vec()));
        }
        let found = hash(raw.iter().map(|(name, data)| (*name, data.as_slice())));
        if &found != entry(HASH)? {
            return Err(damaged("its hash differs from the one it was written with"));
        }
        Ok(Self { position, tensors })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(step: u64) -> Checkpoint {
        Checkpoint {
            position: Position {
                step,
                updates: step,
                epoch: 1,
                row: 2,
                seconds: 3.5,
                processor_seconds: 6.5,
                best: Some(0.25),
                recipe: "abc".to_owned(),
                ..Position::default()
            },
            tensors: BTreeMap::from([
                (
                    "a".to_owned(),
                    (vec![2, 2], vec![1.0, -2.0, 3.5, step as f32]),
                ),
                ("b".to_owned(), (vec![1], vec![f32::MIN_POSITIVE])),
            ]),
        }
    }

    #[test]
    fn comes_back_as_it_was_and_keeps_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        checkpoint(1).save(&path).unwrap();
        checkpoint(2).save(&path).unwrap();
        assert_eq!(Checkpoint::load(&path).unwrap(), checkpoint(2));
        assert_eq!(Checkpoint::load(&previous(&path)).unwrap(), checkpoint(1));
    }

    #[test]
    fn any_damage_is_refused_and_the_previous_one_offered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        checkpoint(1).save(&path).unwrap();
        checkpoint(2).save(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let data_start = bytes.len() - 20;
        for cut in [0, 7, bytes.len() / 2, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let error = Checkpoint::load(&path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Checkpoint);
            assert!(error.to_string().contains("previous"), "{error}");
        }
        let mut flipped = bytes.clone();
        flipped[data_start] ^= 1;
        std::fs::write(&path, &flipped).unwrap();
        assert_eq!(
            Checkpoint::load(&path).unwrap_err().kind(),
            ErrorKind::Checkpoint
        );
    }

    #[test]
    fn the_previous_one_takes_the_place_of_a_damaged_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        assert_eq!(
            Checkpoint::go_back(&path).unwrap_err().kind(),
            ErrorKind::Io
        );
        checkpoint(1).save(&path).unwrap();
        checkpoint(2).save(&path).unwrap();
        std::fs::write(&path, b"damaged").unwrap();
        Checkpoint::go_back(&path).unwrap();
        assert_eq!(Checkpoint::load(&path).unwrap(), checkpoint(1));
        std::fs::write(previous(&path), b"damaged too").unwrap();
        assert_eq!(
            Checkpoint::go_back(&path).unwrap_err().kind(),
            ErrorKind::Checkpoint
        );
        assert_eq!(Checkpoint::load(&path).unwrap(), checkpoint(1));
    }

    #[test]
    fn an_interrupted_write_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        checkpoint(1).save(&path).unwrap();
        // A kill between creating the partial file and the rename.
        std::fs::write(suffixed(&path, "partial"), b"half").unwrap();
        assert_eq!(Checkpoint::load(&path).unwrap(), checkpoint(1));
        checkpoint(2).save(&path).unwrap();
        assert_eq!(Checkpoint::load(&path).unwrap(), checkpoint(2));
    }

    #[test]
    fn a_full_disk_leaves_the_old_file() {
        let full = Path::new("/dev/full");
        if !full.exists() {
            // Only Linux has a device that is always full; elsewhere a missing folder stands for it.
            let error = write_atomically(Path::new("/nonexistent/x"), b"x").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Io);
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        checkpoint(1).save(&path).unwrap();
        std::os::unix::fs::symlink(full, suffixed(&path, "partial")).unwrap();
        let error = checkpoint(2).save(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert_eq!(Checkpoint::load(&path).unwrap(), checkpoint(1));
    }
}
