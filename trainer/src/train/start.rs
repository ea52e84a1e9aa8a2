//! Starting from another model's weights: what fits is taken by name, the rows of the output layer by symbol.

use super::checkpoint::Checkpoint;
use super::records::StartRecord;
use crate::config::StartConfig;
use crate::graph::exec::ParameterStore;
use crate::optim::mean_weights;
use crate::pipeline::Settled;
use crate::train::learner::Tensors;
use crate::{Error, ErrorKind, Result};
use acolyte::Tokens;
use acolyte::model::ModelFile;
use acolyte::spec::{FrontEnd, LogMelSpec, Normalization, TokensSpec};
use half::f16;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use std::path::Path;

/// Prefix of the output layer's parameters, whose first axis is the vocabulary.
const HEAD: &str = "head.";

/// A model to start from.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    config: StartConfig,
    tokens: TokensSpec,
    front_end: FrontEnd,
    tensors: Tensors,
}

impl Start {
    /// Opens a shipped model's folder (`model.onnx`, `weights.safetensors`) or a run's (`settled.json`,
    /// `best.safetensors`).
    ///
    /// # Errors
    /// [`ErrorKind::Recipe`] where the folder is neither; what reading its files reports, naming them.
    pub fn open(config: &StartConfig) -> Result<Self> {
        let folder = &config.model;
        let weights = folder.join("weights.safetensors");
        let best = super::run::best_path(folder);
        let (tokens, front_end, tensors) = if weights.is_file() {
            let spec = ModelFile::open(folder.join("model.onnx"))?.spec().clone();
            (spec.tokens, spec.front_end, read_weights(&weights)?)
        } else if best.is_file() {
            let settled = Settled::load(folder)?;
            let tensors = Checkpoint::load(&best)?.tensors;
            (settled.tokens, settled.front_end, tensors)
        } else {
            return Err(Error::new(
                ErrorKind::Recipe,
                "start_from.model: the folder holds neither weights.safetensors (a shipped model) nor \
                 best.safetensors (a run)",
            )
            .with_path(folder));
        };
        Ok(Self {
            config: config.clone(),
            tokens,
            front_end,
            tensors,
        })
    }

    /// The front-end of the model with its statistics, which its weights were trained on.
    ///
    /// # Errors
    /// [`ErrorKind::Recipe`] where the recipe's features are others; the message names what differs.
    pub fn front_end(&self, recipe: &FrontEnd) -> Result<FrontEnd> {
        let refuse = |what: String| {
            Err(Error::new(
                ErrorKind::Recipe,
                format!("[features] must be those of the model to start from: {what}"),
            )
            .with_path(&self.config.model))
        };
        let (own, recipe) = match (&self.front_end, recipe) {
            (FrontEnd::LogMel(own), FrontEnd::LogMel(recipe)) => (own, recipe),
            (own, asked) if own == asked => return Ok(own.clone()),
            (own, asked) => {
                return refuse(format!(
                    "the model takes {own:?}, the recipe asks for {asked:?}"
                ));
            }
        };
        let fields = |spec: &LogMelSpec| {
            let plain = LogMelSpec {
                normalization: Normalization::None,
                ..spec.clone()
            };
            serde_json::to_value(plain)
                .ok()
                .and_then(|value| value.as_object().cloned())
                .unwrap_or_default()
        };
        let (own_fields, asked) = (fields(own), fields(recipe));
        let differing: Vec<String> = own_fields
            .iter()
            .filter(|(key, value)| asked.get(*key) != Some(value))
            .map(|(key, value)| {
                let found = asked
                    .get(key)
                    .map_or("none".to_owned(), ToString::to_string);
                format!("{key} is {value} there, {found} in the recipe")
            })
            .collect();
        if !differing.is_empty() {
            return refuse(differing.join("; "));
        }
        Ok(self.front_end.clone())
    }

    /// Copies the weights into `store`, whose output layer has the vocabulary `tokens`.
    ///
    /// # Errors
    /// [`ErrorKind::Recipe`] where a parameter has another shape than the model's, or nothing fits at all.
    pub fn apply(&self, tokens: &Tokens, store: &mut ParameterStore) -> Result<StartRecord> {
        let rows = self.rows(tokens);
        let name_of = |&index: &usize| tokens.piece(index as u32).unwrap_or_default().to_owned();
        let (known, new): (Vec<usize>, Vec<usize>) =
            (0..rows.len()).partition(|&index| rows[index].is_some());
        let left = (0..self.tokens.pieces.len())
            .filter(|index| !rows.contains(&Some(*index)))
            .map(|index| self.tokens.pieces[index].clone());
        let mut record = StartRecord {
            started_from: self.config.model.display().to_string(),
            tokens_matched: known.len(),
            tokens_new: new.iter().map(name_of).collect(),
            tokens_left: left.collect(),
            tensors_taken: 0,
            tensors_new: Vec::new(),
            frozen: Vec::new(),
        };
        for name in store.names().to_vec() {
            let shape = store.shape(&name)?;
            if self.config.freezes(&name) && !name.contains(".running_") {
                record.frozen.push(name.clone());
            }
            let Some((own_shape, own)) = self.tensors.get(&name) else {
                record.tensors_new.push(name);
                continue;
            };
            if name.starts_with(HEAD) && own_shape.get(1..) == shape.get(1..) {
                let width = shape.iter().skip(1).product::<usize>().max(1);
                copy_rows(store.get_mut(&name)?, own, width, &rows, tokens.blank());
            } else if *own_shape == shape {
                store.insert(&name, &shape, own)?;
            } else {
                return Err(Error::new(
                    ErrorKind::Recipe,
                    format!(
                        "[model] must be that of the model to start from: {name} is {own_shape:?} there, {shape:?} \
                         by the recipe"
                    ),
                )
                .with_path(&self.config.model));
            }
            record.tensors_taken += 1;
        }
        if record.tensors_taken == 0 {
            return Err(Error::new(
                ErrorKind::Recipe,
                "start_from.model: none of its tensors has a name of this network's",
            )
            .with_path(&self.config.model));
        }
        Ok(record)
    }

    /// For each token of the recipe, the model's row with the same symbol; blanks match each other.
    fn rows(&self, tokens: &Tokens) -> Vec<Option<usize>> {
        let own = &self.tokens;
        let row = |id: u32| {
            if id == tokens.blank() {
                return Some(own.blank as usize);
            }
            let piece = tokens.piece(id)?;
            own.pieces
                .iter()
                .enumerate()
                .position(|(index, other)| index != own.blank as usize && other == piece)
        };
        (0..tokens.len() as u32).map(row).collect()
    }
}

/// Copies the rows that are known. A new token starts at the mean of the known ones, the blank left out: it then never
/// outdoes the one that is meant, as a random row would, before it is learned.
fn copy_rows(target: &mut [f32], own: &[f32], width: usize, rows: &[Option<usize>], blank: u32) {
    let row = |index: usize| own.get(index * width..(index + 1) * width);
    let spoken = rows
        .iter()
        .enumerate()
        .filter(|(id, _)| *id != blank as usize);
    let known: Vec<&[f32]> = spoken.filter_map(|(_, index)| row((*index)?)).collect();
    let mean = mean_weights(&known).ok();
    for (place, index) in target.chunks_exact_mut(width).zip(rows) {
        let values = match index {
            Some(index) => row(*index),
            None => mean.as_deref(),
        };
        if let Some(values) = values {
            place.copy_from_slice(values);
        }
    }
}

impl StartRecord {
    /// One sentence for people.
    pub fn summary(&self) -> String {
        let list = |names: &[String]| match names {
            [] => String::new(),
            names => format!(" ({})", names.join(" ")),
        };
        format!(
            "started from {}: {} tokens matched by symbol, {} new{}, {} of the model's left out{}; {} tensors taken, {} \
             new{}; {} parameters frozen",
            self.started_from,
            self.tokens_matched,
            self.tokens_new.len(),
            list(&self.tokens_new),
            self.tokens_left.len(),
            list(&self.tokens_left),
            self.tensors_taken,
            self.tensors_new.len(),
            list(&self.tensors_new),
            self.frozen.len()
        )
    }
}

/// Reads the f16 and f32 tensors of a shipped model.
fn read_weights(path: &Path) -> Result<Tensors> {
    let bytes = std::fs::read(path).map_err(|error| Error::io(path, error))?;
    let damaged = |what: String| Error::new(ErrorKind::Checkpoint, what).with_path(path);
    let file = SafeTensors::deserialize(&bytes).map_err(|error| damaged(error.to_string()))?;
    let mut tensors = Tensors::new();
    for (name, view) in file.iter() {
        let values = floats(&view)
            .ok_or_else(|| damaged(format!("{name} is {:?}, not F16 or F32", view.dtype())))?;
        tensors.insert(name.to_owned(), (view.shape().to_vec(), values));
    }
    Ok(tensors)
}

fn floats(view: &TensorView<'_>) -> Option<Vec<f32>> {
    let data = view.data();
    match view.dtype() {
        Dtype::F32 => Some(
            data.as_chunks::<4>()
                .0
                .iter()
                .map(|&b| f32::from_le_bytes(b))
                .collect(),
        ),
        Dtype::F16 => Some(
            data.as_chunks::<2>()
                .0
                .iter()
                .map(|&b| f16::from_le_bytes(b).to_f32())
                .collect(),
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::testing::engine;
    use acolyte::spec::WordMark;

    fn tokens(pieces: &[&str], blank: u32) -> TokensSpec {
        TokensSpec {
            pieces: pieces.iter().map(|&piece| piece.to_owned()).collect(),
            blank,
            word_mark: WordMark::None,
        }
    }

    fn vocabulary(pieces: &[&str]) -> Tokens {
        Tokens::new(tokens(pieces, 0)).unwrap()
    }

    fn start() -> Start {
        Start {
            config: StartConfig {
                model: "there".into(),
                freeze: vec!["stem".to_owned()],
            },
            // The blank stands last there, and a token is spelled like the blank's text.
            tokens: tokens(&["a", "<blank>", "b", "_"], 3),
            front_end: FrontEnd::LogMel(LogMelSpec::default()),
            tensors: Tensors::from([
                (
                    "head.weight".to_owned(),
                    (vec![4, 2], (0..8u8).map(f32::from).collect()),
                ),
                (
                    "head.bias".to_owned(),
                    (vec![4], vec![10.0, 11.0, 12.0, 13.0]),
                ),
                ("stem.weight".to_owned(), (vec![2], vec![5.0, 6.0])),
            ]),
        }
    }

    #[test]
    fn rows_are_matched_by_symbol_and_new_ones_are_their_mean() {
        let mut store = ParameterStore::new(&engine());
        store.insert("stem.weight", &[2], &[0.0; 2]).unwrap();
        store.insert("stem.running_mean", &[1], &[0.5]).unwrap();
        store.insert("head.weight", &[4, 2], &[-1.0; 8]).unwrap();
        store.insert("head.bias", &[4], &[-1.0; 4]).unwrap();
        let record = start()
            .apply(&vocabulary(&["<blank>", "b", "c", "a"]), &mut store)
            .unwrap();
        assert_eq!(store.get("head.bias").unwrap(), [13.0, 12.0, 11.0, 10.0]);
        let weights = [6.0, 7.0, 4.0, 5.0, 2.0, 3.0, 0.0, 1.0];
        assert_eq!(store.get("head.weight").unwrap(), weights);
        assert_eq!(store.get("stem.weight").unwrap(), [5.0, 6.0]);
        assert_eq!(record.tokens_matched, 3);
        assert_eq!(record.tokens_new, ["c"]);
        assert_eq!(record.tokens_left, ["<blank>"]);
        assert_eq!(record.tensors_taken, 3);
        assert_eq!(record.tensors_new, ["stem.running_mean"]);
        assert_eq!(record.frozen, ["stem.weight"]);
        let text = record.summary();
        for part in ["3 tokens matched", "1 new (c)", "1 parameters frozen"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_with_what_differs() {
        let mut store = ParameterStore::new(&engine());
        store.insert("stem.weight", &[3], &[0.0; 3]).unwrap();
        let blank = vocabulary(&["<blank>", "a"]);
        let error = start().apply(&blank, &mut store).unwrap_err();
        assert!(error.to_string().contains("stem.weight"), "{error}");
        let mut other = ParameterStore::new(&engine());
        other.insert("x", &[1], &[0.0]).unwrap();
        assert!(start().apply(&blank, &mut other).is_err(), "nothing fits");
        let spec = LogMelSpec {
            mels: 7,
            ..LogMelSpec::default()
        };
        let error = start().front_end(&FrontEnd::LogMel(spec)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Recipe);
        assert!(error.to_string().contains("mels"), "{error}");
        assert!(
            start()
                .front_end(&FrontEnd::LogMel(LogMelSpec::default()))
                .is_ok()
        );
        let folder = tempfile::tempdir().unwrap();
        let config = StartConfig {
            model: folder.path().to_owned(),
            freeze: Vec::new(),
        };
        let error = Start::open(&config).unwrap_err();
        assert!(error.to_string().contains("weights.safetensors"), "{error}");
    }
}
