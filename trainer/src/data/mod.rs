//! Training data: from manifests to batches.
//!
//! The way of an utterance: [`manifest`] reads rows, [`rows`] judges them and makes token ids ([`text`]), [`store`]
//! decodes and caches the audio, [`speech`] gives each epoch's features (changed at random by [`augment`]),
//! [`stats`] measures what normalizes them, [`batch`] plans shapes and order, [`loader`] prepares the batches in the
//! background:
//!
//! ```no_run
//! use acolyte_trainer::config::Recipe;
//! use acolyte_trainer::data::{batch::*, loader::*, speech::*, stats::*};
//! use std::sync::Arc;
//! # fn main() -> acolyte_trainer::Result<()> {
//! let recipe = Recipe::load("trainer/recipes/speech-tiny.toml", &["seed=2"])?;
//! let data = SpeechData::open(&recipe, "data".as_ref(), &|_| ())?;
//! let plain = recipe.features.spec(acolyte::spec::Normalization::None);
//! let stats = feature_stats(
//!     &data.judging(data.train(), &plain)?,
//!     &spread(&picks(data.weights(), recipe.seed, 0), 1_000),
//! )?;
//! let train = Arc::new(data.training(&recipe.features.spec(stats.normalization()))?);
//! let first = picks(data.weights(), recipe.seed, 0);
//! let shapes = fit_shapes(&*train, &first, &[], &BatchOptions::from_recipe(&recipe));
//! let loader = Loader::new(train.clone(), recipe.data.workers)?;
//! for epoch in 0..2 {
//!     let picks = picks(data.weights(), recipe.seed, epoch);
//!     let order = Order::Shuffled { seed: recipe.seed, epoch };
//!     for batch in loader.batches(plan_epoch(&*train, &picks, &shapes, epoch, order), epoch, 0)? {
//!         let (items, channels, height, frames) = batch?.features.dim();
//!     }
//! }
//! # Ok(())
//! # }
//! ```

pub mod augment;
pub mod batch;
pub mod images;
pub mod loader;
pub mod manifest;
pub mod rows;
pub mod speech;
pub mod stats;
pub mod store;
pub mod task;
pub mod text;
