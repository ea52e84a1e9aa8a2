//! What a step costs, measured: the compiled step over a full row of made-up speech.

use super::learner::Learner;
use super::pack::{Packer, Row, Utterance};
use super::run::packer;
use super::step::{EvaluationStep, Extras};
use crate::check::StepCost;
use crate::config::Recipe;
use crate::graph::exec::Engine;
use crate::network::fold;
use crate::student::student;
use crate::{Error, ErrorKind, Result};
use ndarray::Array2;
use std::time::Instant;

/// Steps timed after two that warm up.
const TIMED: usize = 3;

/// Feature frames of a made-up utterance: four seconds.
const FRAMES: usize = 400;

/// Compiles the recipe's student over `vocabulary` symbols and measures what a row costs.
///
/// # Errors
/// What compiling and running report.
pub fn measure(engine: &Engine, recipe: &Recipe, vocabulary: usize) -> Result<StepCost> {
    let student = student(recipe, vocabulary);
    let packer = packer(recipe, &*student);
    let row = full_row(&packer, student.stride())?;
    let longest = FRAMES / student.stride() / 4;
    let before = resident_bytes();
    let mut learner = Learner::new(engine, recipe, &student, None, &packer, longest, |_| Ok(()))?;
    let mut seed = 0;
    let seconds = time(|| {
        seed += 1;
        learner.learn(&row, seed, 0.0, Some(1e-4)).map(|_| ())
    })?;
    let grown = before.and_then(|before| Some(resident_bytes()?.saturating_sub(before)));
    let folded = fold(engine, &*student, &|name| learner.averaged(name))?;
    let mut step = EvaluationStep::new(engine, &student, &packer, &folded, Extras::default())?;
    let judging_seconds = time(|| step.run(&row).map(|_| ()))?;
    Ok(StepCost {
        parameters: learner.parameters(),
        seconds,
        judging_seconds,
        // Weights, gradients, two moments and the average at least, whatever the process gave back meanwhile.
        bytes: grown
            .unwrap_or_else(|| (student.kept() * packer.width as f64) as usize * size_of::<f32>())
            .max(5 * size_of::<f32>() * learner.parameters()),
    })
}

/// Mean seconds of a few calls, after two that warm up.
fn time(mut call: impl FnMut() -> Result<()>) -> Result<f64> {
    call()?;
    call()?;
    let start = Instant::now();
    for _ in 0..TIMED {
        call()?;
    }
    Ok(start.elapsed().as_secs_f64() / TIMED as f64)
}

/// A row filled with utterances.
fn full_row(packer: &Packer, stride: usize) -> Result<Row> {
    let mut row = packer.row();
    let length = FRAMES.min(packer.width / 2);
    while packer.fits(&row, length, 0) {
        let features = Array2::from_shape_fn((packer.features, length), |(f, t)| {
            ((t * 31 + f * 17) % 97) as f32 / 48.0 - 1.0
        });
        let utterance = Utterance {
            targets: vec![1; length / stride / 4],
            name: "made up".to_owned(),
            index: 0,
        };
        packer.place(&mut row, features.view(), utterance)?;
    }
    if row.segments.is_empty() {
        return Err(Error::new(
            ErrorKind::Recipe,
            format!("train.batch_frames = {} holds no utterance", packer.width),
        ));
    }
    Ok(row)
}

/// Memory of this process that is in use, where the system tells it (Linux).
fn resident_bytes() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::testing::engine;

    #[test]
    fn a_step_has_a_cost_that_grows_with_the_row() {
        let text = "name = \"toy\"\ntask = \"speech\"\nlicense = \"MIT\"\n[data]\n\
                    train = [{ manifest = \"m.jsonl\" }]\n[model]\nchannels = 16\nblocks = 1\n";
        let cost = |frames: usize| {
            let recipe = Recipe::parse(text, &[format!("train.batch_frames={frames}")]).unwrap();
            measure(&engine(), &recipe, 5)
        };
        let (small, large) = (cost(1_000).unwrap(), cost(16_000).unwrap());
        assert_eq!(small.parameters, large.parameters);
        assert!(large.seconds > 2.0 * small.seconds, "{small:?}, {large:?}");
        assert!(large.judging_seconds < large.seconds);
        assert!(small.bytes >= 20 * small.parameters && large.bytes >= 20 * large.parameters);
        assert!(
            !cfg!(target_os = "linux") || resident_bytes().is_some_and(|bytes| bytes > 1 << 20)
        );
        assert_eq!(cost(8).unwrap_err().kind(), ErrorKind::Recipe);
    }
}
