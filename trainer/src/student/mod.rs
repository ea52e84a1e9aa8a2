//! Students: small CTC networks to deploy. All are trained on packed rows `[1, F, N]` of items one after another.

pub mod jasper;
pub mod speech;
pub mod text;

use crate::config::{ModelKind, Recipe};
use crate::network::Network;
use std::sync::Arc;

/// The student that a recipe describes over `vocabulary` symbols, blank included.
pub fn student(recipe: &Recipe, vocabulary: usize) -> Arc<dyn Network> {
    let features = recipe.features.mels;
    let config = recipe.model.clone();
    match config.kind {
        ModelKind::Conv => Arc::new(speech::SpeechStudent {
            features,
            vocabulary,
            config,
        }),
        ModelKind::JasperMini => Arc::new(jasper::JasperStudent {
            features,
            vocabulary,
            config,
        }),
        ModelKind::Image => Arc::new(text::TextStudent::new(recipe, vocabulary)),
    }
}
