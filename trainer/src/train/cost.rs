//! What a step costs, measured: one compiled step over a full row of made-up speech.

use super::pack::Utterance;
use super::run::packer;
use super::step::TrainStep;
use crate::check::StepCost;
use crate::config::Recipe;
use crate::data::batch::Shape;
use crate::graph::exec::{Engine, ParameterStore};
use crate::student::student;
use crate::{Error, ErrorKind, Result};
use ndarray::Array2;
use std::time::Instant;

/// Steps timed after two that warm up.
const TIMED: usize = 3;

/// Feature frames of a made-up utterance: four seconds.
const FRAMES: usize = 400;

/// The measured cost of a recipe's step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MeasuredCost {
    parameters: usize,
    seconds_per_frame: f64,
    bytes_per_frame: f64,
}

impl MeasuredCost {
    /// Compiles the recipe's student over `vocabulary` symbols and times it.
    ///
    /// # Errors
    /// What compiling and running report.
    pub fn measure(engine: &Engine, recipe: &Recipe, vocabulary: usize) -> Result<Self> {
        let network = student(recipe.features.mels, vocabulary, &recipe.model);
        let packer = packer(recipe, &*network);
        let mut store = ParameterStore::new(engine);
        let longest = FRAMES / recipe.model.stride / 4;
        let mut step = TrainStep::new(
            engine,
            &network,
            &packer,
            longest,
            &mut store,
            recipe.seed,
            None,
        )?;
        let mut row = packer.row();
        let mut frames = 0;
        let length = FRAMES.min(packer.width / 2);
        while packer.fits(&row, length) {
            let features = Array2::from_shape_fn((packer.features, length), |(f, t)| {
                ((t * 31 + f * 17) % 97) as f32 / 48.0 - 1.0
            });
            let utterance = Utterance {
                targets: vec![1; length / recipe.model.stride / 4],
                name: "made up".to_owned(),
                index: 0,
            };
            packer.place(&mut row, features.view(), utterance)?;
            frames += length;
        }
        if frames == 0 {
            return Err(Error::new(
                ErrorKind::Recipe,
                format!("train.batch_frames = {} holds no utterance", packer.width),
            ));
        }
        let mut times = Vec::with_capacity(TIMED);
        for seed in 0..TIMED as u64 + 2 {
            let start = Instant::now();
            step.run(&row, seed, 0.0)?;
            times.push(start.elapsed().as_secs_f64());
        }
        let timed = &times[2..];
        let seconds = timed.iter().sum::<f64>() / timed.len() as f64;
        // Every layer keeps its convolution's result, its output and their gradients at the output rate.
        let values = 4 * network.layer_channels();
        Ok(Self {
            parameters: step
                .parameters()
                .iter()
                .map(|spec| spec.shape.iter().product::<usize>())
                .sum(),
            seconds_per_frame: seconds / frames as f64,
            bytes_per_frame: (values * size_of::<f32>()) as f64 / recipe.model.stride as f64,
        })
    }
}

impl StepCost for MeasuredCost {
    fn parameters(&self) -> usize {
        self.parameters
    }

    fn seconds(&self, shape: Shape) -> f64 {
        self.seconds_per_frame * (shape.batch * shape.frames) as f64
    }

    fn bytes(&self, shape: Shape) -> usize {
        (self.bytes_per_frame * (shape.batch * shape.frames) as f64) as usize
    }
}
