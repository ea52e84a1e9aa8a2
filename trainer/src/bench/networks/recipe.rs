//! The student of the recipe `speech-tiny` over one row of its batch size, packed with utterances of four seconds as a
//! run packs them. PyTorch gets the same utterances as a batch.

use super::{Fed, Task};
use crate::Result;
use crate::bench::numbers;
use crate::config::Recipe;
use crate::nn::Net;
use crate::student::student;
use crate::train::pack::Utterance;
use crate::train::run::packer;
use ndarray::Array2;

const RECIPE: &str = include_str!("../../../recipes/speech-tiny.toml");

/// Feature frames of an utterance.
const FRAMES: usize = 400;

pub(super) fn build(net: &mut Net) -> Result<Task> {
    let none: [&str; 0] = [];
    let recipe = Recipe::parse(RECIPE, &none)?;
    let student = student(&recipe, recipe.text.tokens.len() + 1);
    let packer = packer(&recipe, &*student);
    let built = student.build(net, packer.width)?;
    let mut row = packer.row();
    while packer.fits(&row, FRAMES) {
        let index = row.segments.len();
        let values = numbers(student.features() * FRAMES, index);
        let features = Array2::from_shape_fn((student.features(), FRAMES), |(f, t)| {
            values[f * FRAMES + t]
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
        longest: FRAMES / 10,
        fed: vec![
            ("features", Fed::Floats(row.features)),
            ("mask", Fed::Floats(row.mask)),
        ],
    })
}
