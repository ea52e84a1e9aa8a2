//! Students: small recognizers that see the input alone.

pub mod jasper;
pub mod speech;

use crate::config::{ModelConfig, ModelKind};
use crate::network::Network;
use std::sync::Arc;

/// The student that a recipe's section describes, over F features and V symbols with blank.
pub fn student(features: usize, vocabulary: usize, config: &ModelConfig) -> Arc<dyn Network> {
    let config = config.clone();
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
    }
}
