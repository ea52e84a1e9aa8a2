//! Students: small CTC networks to deploy. All are trained on packed rows `[1, F, N]` of items one after another.

pub mod speech;
pub mod text;

use crate::Result;
use crate::config::{ModelKind, Recipe};
use crate::graph::Value;
use crate::nn::{Net, ParameterSpec};
use speech::SpeechStudent;
use std::collections::HashMap;
use text::{STRIDE, TextStudent};

/// The values a built student names.
#[derive(Debug, Clone, Copy)]
pub struct Built {
    /// `[1, F, 1, T]`, or `[1, C, H, T]` with F = C H.
    pub features: Value,
    /// `[1, V, 1, T / stride]`.
    pub logits: Value,
}

/// A student of either task.
#[derive(Debug, Clone, PartialEq)]
pub enum Student {
    /// Hears speech.
    Speech(SpeechStudent),
    /// Reads images.
    Text(TextStudent),
}

impl Student {
    /// The student that a recipe describes over `vocabulary` symbols, blank included.
    pub fn new(recipe: &Recipe, vocabulary: usize) -> Self {
        match recipe.model.kind {
            ModelKind::Conv => Self::Speech(SpeechStudent {
                features: recipe.features.mels,
                vocabulary,
                config: recipe.model.clone(),
            }),
            ModelKind::Image => Self::Text(TextStudent {
                channels: recipe.image.channels.count(),
                height: recipe.image.height,
                vocabulary,
                config: recipe.model.image.clone().unwrap_or_default(),
                dropout: recipe.model.dropout,
            }),
        }
    }

    /// Features a frame: F.
    pub fn features(&self) -> usize {
        match self {
            Self::Speech(student) => student.features,
            Self::Text(student) => student.channels * student.height,
        }
    }

    /// Symbols with blank: V.
    pub fn vocabulary(&self) -> usize {
        match self {
            Self::Speech(student) => student.vocabulary,
            Self::Text(student) => student.vocabulary,
        }
    }

    /// Feature frames per output frame.
    pub fn stride(&self) -> usize {
        match self {
            Self::Speech(student) => student.config.stride,
            Self::Text(_) => STRIDE,
        }
    }

    /// Output frames by which the output lags the input.
    pub fn delay(&self) -> usize {
        match self {
            Self::Speech(student) => student.config.delay_frames,
            Self::Text(_) => 0,
        }
    }

    /// Zero frames that must stand between items of a row so that no layer of one sees another.
    pub fn gap(&self) -> usize {
        match self {
            Self::Speech(student) => student.gap(),
            Self::Text(student) => student.gap(),
        }
    }

    /// Output frames that one output sees.
    pub fn receptive_field(&self) -> usize {
        match self {
            Self::Speech(student) => student.receptive_field(),
            Self::Text(student) => student.receptive_field(),
        }
    }

    /// Numbers that a step keeps for each feature frame: every layer's result, output and their gradients.
    pub fn kept(&self) -> f64 {
        match self {
            Self::Speech(student) => {
                let values: usize = student.layers().iter().map(|layer| 4 * layer.outputs).sum();
                values as f64 / self.stride() as f64
            }
            Self::Text(student) => {
                let (mut rows, mut columns) = (student.height as f64, 1.0);
                let mut values = 0.0;
                for layer in student.layers() {
                    let [down, across] = layer.attributes.strides;
                    rows /= down as f64;
                    columns /= across as f64;
                    if layer.kernel[1] == 1 && layer.kernel[0] > 1 {
                        rows = 1.0;
                    }
                    values += 4.0 * layer.outputs as f64 * rows * columns;
                }
                values
            }
        }
    }

    /// Builds the student over `frames` feature frames, a multiple of the stride.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Graph`] where layers do not fit.
    pub fn build(&self, net: &mut Net, frames: usize) -> Result<Built> {
        match self {
            Self::Speech(student) => student.build(net, frames),
            Self::Text(student) => student.build(net, frames),
        }
    }

    /// The parameters of the folded forms: names and shapes.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn folded_parameters(&self) -> Result<Vec<ParameterSpec>> {
        match self {
            Self::Speech(student) => student.folded_parameters(),
            Self::Text(student) => student.folded_parameters(),
        }
    }

    /// The parameters of the folded forms from those of the training form, by name.
    ///
    /// # Errors
    /// What `get` reports.
    pub fn fold<'a>(
        &self,
        get: impl Fn(&str) -> Result<&'a [f32]> + Copy,
    ) -> Result<HashMap<String, Vec<f32>>> {
        match self {
            Self::Speech(student) => student.fold(get),
            Self::Text(student) => student.fold(get),
        }
    }
}

impl From<SpeechStudent> for Student {
    fn from(student: SpeechStudent) -> Self {
        Self::Speech(student)
    }
}

impl From<TextStudent> for Student {
    fn from(student: TextStudent) -> Self {
        Self::Text(student)
    }
}
