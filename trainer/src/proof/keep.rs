//! Teachers kept in the repository until the table stands: weights as f16, and what else guidance needs. A proof that
//! goes on elsewhere takes a kept teacher instead of training it again.

use crate::distill::stages::Finished;
use crate::train::checkpoint::{Checkpoint, Position, write_atomically};
use crate::train::run::best_path;
use crate::{Error, ErrorKind, Result};
use half::f16;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Files of a run that are kept as they are.
const BESIDE: [&str; 3] = ["recipe.toml", "settled.json", "finished.json"];

/// Largest file of weights that is kept, in bytes.
const MAX_BYTES: usize = 4_000_000;

const WEIGHTS: &str = "weights.safetensors";

fn fail(error: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::Checkpoint, format!("kept weights: {error}"))
}

/// Keeps the best weights of the run in `from` under `to`; a teacher too large to keep stays where it is.
///
/// # Errors
/// [`ErrorKind::Io`] and [`ErrorKind::Checkpoint`], naming the file.
pub(super) fn keep(from: &Path, to: &Path) -> Result<()> {
    let weights = Checkpoint::load(&best_path(from))?;
    let raw: Vec<(&String, &Vec<usize>, Vec<u8>)> = weights
        .tensors
        .iter()
        .map(|(name, (shape, data))| {
            let bytes = data.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes());
            (name, shape, bytes.collect())
        })
        .collect();
    let views = raw
        .iter()
        .map(|(name, shape, bytes)| {
            let view = TensorView::new(Dtype::F16, (*shape).clone(), bytes);
            Ok((name.as_str(), view.map_err(|error| fail(&error))?))
        })
        .collect::<Result<Vec<_>>>()?;
    let position = serde_json::to_string(&weights.position).map_err(|error| fail(&error))?;
    let metadata = HashMap::from([("position".to_owned(), position)]);
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(|error| fail(&error))?;
    if bytes.len() > MAX_BYTES {
        return Ok(());
    }
    std::fs::create_dir_all(to).map_err(|error| Error::io(to, error))?;
    for name in BESIDE {
        let path = from.join(name);
        let text = std::fs::read(&path).map_err(|error| Error::io(&path, error))?;
        write_atomically(&to.join(name), &text)?;
    }
    write_atomically(&to.join(WEIGHTS), &bytes)
}

/// Makes the run in `to` of a kept teacher, if one with this recipe is kept in `from`; whether it was.
///
/// # Errors
/// [`ErrorKind::Io`] and [`ErrorKind::Checkpoint`], naming the file.
pub(super) fn restore(from: &Path, to: &Path, recipe: &str) -> Result<bool> {
    let path = from.join("finished.json");
    let Ok(text) = std::fs::read_to_string(&path) else {
        return Ok(false);
    };
    let finished: Finished =
        serde_json::from_str(&text).map_err(|error| fail(&error).with_path(&path))?;
    if finished.recipe != recipe || to.join("finished.json").exists() {
        return Ok(false);
    }
    let path = from.join(WEIGHTS);
    let bytes = std::fs::read(&path).map_err(|error| Error::io(&path, error))?;
    let weights = unpack(&bytes).map_err(|error| error.with_path(&path))?;
    std::fs::create_dir_all(to).map_err(|error| Error::io(to, error))?;
    weights.save(&best_path(to))?;
    for name in BESIDE {
        let path = from.join(name);
        let text = std::fs::read(&path).map_err(|error| Error::io(&path, error))?;
        write_atomically(&to.join(name), &text)?;
    }
    Ok(true)
}

fn unpack(bytes: &[u8]) -> Result<Checkpoint> {
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| fail(&error))?;
    let file = SafeTensors::deserialize(bytes).map_err(|error| fail(&error))?;
    let entries = metadata.metadata().as_ref();
    let position = entries.and_then(|entries| entries.get("position"));
    let position = position.ok_or_else(|| fail(&"no position in its metadata"))?;
    let position: Position = serde_json::from_str(position).map_err(|error| fail(&error))?;
    let mut tensors = BTreeMap::new();
    for name in file.names() {
        let view = file.tensor(name).map_err(|error| fail(&error))?;
        if view.dtype() != Dtype::F16 {
            return Err(fail(&format!("{name} is {:?}, not F16", view.dtype())));
        }
        let values = view.data().as_chunks::<2>().0;
        let values = values.iter().map(|&b| f16::from_le_bytes(b).to_f32());
        tensors.insert(name.to_owned(), (view.shape().to_vec(), values.collect()));
    }
    Ok(Checkpoint { position, tensors })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_teacher_comes_back_to_its_own_recipe_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let checkpoint = Checkpoint {
            position: Position {
                step: 7,
                updates: 7,
                epoch: 1,
                row: 0,
                seconds: 2.0,
                best: Some(1.5),
                recipe: "hash".to_owned(),
                ..Position::default()
            },
            tensors: BTreeMap::from([("w".to_owned(), (vec![2, 2], vec![1.0, -0.5, 0.25, 8.0]))]),
        };
        std::fs::create_dir_all(path("run")).unwrap();
        checkpoint.save(&best_path(&path("run"))).unwrap();
        std::fs::write(path("run").join("recipe.toml"), "name = 1").unwrap();
        std::fs::write(path("run").join("settled.json"), "{}").unwrap();
        let finished = Finished {
            recipe: "hash".to_owned(),
            seconds: 3.0,
            steps: 9,
            best_seconds: 2.0,
            best_steps: 7,
            best_wer: Some(1.5),
        };
        let text = serde_json::to_string(&finished).unwrap();
        std::fs::write(path("run").join("finished.json"), text).unwrap();
        keep(&path("run"), &path("kept")).unwrap();
        assert!(!restore(&path("kept"), &path("new"), "another").unwrap());
        assert!(restore(&path("kept"), &path("new"), "hash").unwrap());
        assert!(
            !restore(&path("kept"), &path("new"), "hash").unwrap(),
            "once"
        );
        let back = Checkpoint::load(&best_path(&path("new"))).unwrap();
        assert_eq!(back, checkpoint);
        assert!(!restore(&path("nowhere"), &path("new"), "hash").unwrap());
    }
}
