//! The student of a shipped recipe over one row of its batch size, packed with items of one length as a run packs them:
//! utterances of four seconds, or crops four times as wide as high. PyTorch gets the same items as a batch.

use super::{Fed, Task};
use crate::Result;
use crate::bench::numbers;
use crate::config::Recipe;
use crate::nn::Net;
use crate::student::student;
use crate::train::pack::Utterance;
use crate::train::run::packer;
use ndarray::Array2;

/// A recipe and the items of its row.
pub(super) struct Packed {
    recipe: &'static str,
    /// Feature frames, or columns, of an item.
    frames: usize,
    /// Symbols of its target.
    symbols: usize,
}

pub(super) const SPEECH_TINY: Packed = Packed {
    recipe: include_str!("../../../recipes/speech-tiny.toml"),
    frames: 400,
    symbols: 40,
};

pub(super) const SCENE_TINY: Packed = Packed {
    recipe: include_str!("../../../recipes/scene-tiny.toml"),
    frames: 128,
    symbols: 8,
};

pub(super) fn build(net: &mut Net, packed: &Packed) -> Result<Task> {
    let none: [&str; 0] = [];
    let recipe = Recipe::parse(packed.recipe, &none)?;
    let frames = packed.frames;
    let student = student(&recipe, recipe.text.tokens.len() + 1);
    let packer = packer(&recipe, &*student);
    let built = student.build(net, packer.width)?;
    let mut row = packer.row();
    while packer.fits(&row, frames, 0) {
        let index = row.segments.len();
        let values = numbers(student.features() * frames, index);
        let features = Array2::from_shape_fn((student.features(), frames), |(f, t)| {
            values[f * frames + t]
        });
        let utterance = Utterance {
            targets: Vec::new(),
            name: "made up".to_owned(),
            index,
        };
        packer.place(&mut row, features.view(), utterance)?;
    }
    let places = row.segments.iter();
    let place = places.map(|place| [0, place.start as i32, place.frames as i32]);
    Ok(Task {
        logits: built.logits,
        vocabulary: student.vocabulary(),
        segments: place.collect(),
        longest: packed.symbols,
        fed: vec![
            ("features", Fed::Floats(row.features)),
            ("mask", Fed::Floats(row.mask)),
        ],
    })
}
