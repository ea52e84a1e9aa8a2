//! Every objective's gradient, through the whole step that trains with it.

use super::objectives::{Inputs, Objective, Site, objective};
use super::{Distillation, Guidance, Guide};
use crate::config::{
    Context, DistillConfig, FrameSelection, ModelConfig, ObjectiveConfig, ObjectiveKind,
};
use crate::graph::exec::{Engine, ParameterStore};
use crate::graph::testing::{engine, evaluate, numbers};
use crate::graph::{Graph, Value};
use crate::network::{Built, Network};
use crate::nn::{Form, Net};
use crate::student::speech::SpeechStudent;
use crate::teacher::ask::log_softmax;
use crate::train::pack::{Packer, Row, Utterance};
use crate::train::step::TrainStep;
use crate::train::supervise::{StepGraph, Supervision};
use half::f16;
use ndarray::Array2;
use std::sync::Arc;

/// Symbols with blank.
const VOCABULARY: usize = 5;

/// Channels of the teacher's hidden value.
const WIDE: usize = 7;

/// Feature frames and transcripts of the row's utterances.
const UTTERANCES: [(usize, &[u32]); 2] = [(24, &[1, 2, 2]), (30, &[4, 3])];

fn student(delay: usize) -> SpeechStudent {
    SpeechStudent {
        features: 4,
        vocabulary: VOCABULARY,
        config: ModelConfig {
            channels: 6,
            blocks: 2,
            kernel: 3,
            dilations: vec![1],
            context: if delay > 0 {
                Context::Causal
            } else {
                Context::Symmetric
            },
            delay_frames: delay,
            dropout: 0.0,
            ..ModelConfig::default()
        },
    }
}

fn packer(network: &dyn Network, views: usize) -> Packer {
    Packer {
        width: 96 * views,
        features: 4,
        stride: 2,
        gap: network.gap(),
        delay: network.delay(),
        most: 2 * views,
        symbols: usize::MAX,
        views,
    }
}

fn row(packer: &Packer) -> Row {
    let part = |view: usize| {
        let packer = packer.view();
        let mut row = packer.row();
        for (index, (frames, targets)) in UTTERANCES.into_iter().enumerate() {
            let values = numbers(4 * frames, 10 * view + index);
            let features = Array2::from_shape_vec((4, frames), values).unwrap();
            let utterance = Utterance {
                targets: targets.to_vec(),
                name: format!("utterance {index}"),
                index,
            };
            packer.place(&mut row, features.view(), utterance).unwrap();
        }
        row
    };
    let parts: Vec<Row> = (0..packer.views).map(part).collect();
    packer.join(&parts).unwrap()
}

fn guidance() -> Vec<Arc<Guidance>> {
    let kept = UTTERANCES
        .iter()
        .enumerate()
        .map(|(salt, &(frames, targets))| {
            let steps = frames / 2;
            let values = numbers(steps * VOCABULARY, 40 + salt);
            let scores = Array2::from_shape_vec((steps, VOCABULARY), values).unwrap();
            let hidden = numbers(steps * WIDE, 50 + salt);
            let hidden = Array2::from_shape_vec((steps, WIDE), hidden).unwrap();
            Arc::new(Guidance {
                log_probs: log_softmax(3.0 * scores),
                hidden: Some(hidden.mapv(f16::from_f32)),
                readings: vec![(targets.to_vec(), 0.7), (vec![1, 3], 0.3)],
            })
        });
    kept.collect()
}

fn distillation(config: &DistillConfig, delay: usize) -> Arc<dyn Supervision> {
    let guide = Guide::Kept(guidance());
    Arc::new(Distillation::new(config, Some((guide, WIDE)), delay).unwrap())
}

/// A step for rows of up to three utterances, its parameters put into `store`.
fn train_step(
    engine: &Engine,
    network: &Arc<dyn Network>,
    packer: &Packer,
    store: &mut ParameterStore,
    supervision: Arc<dyn Supervision>,
) -> TrainStep {
    TrainStep::new(engine, network, packer, 3, store, 5, Some(supervision)).unwrap()
}

/// The derivative of the loss along its gradient must be the gradient's length.
fn check(label: &str, config: &DistillConfig, delay: usize) {
    let network: Arc<dyn Network> = Arc::new(student(delay));
    let supervision = distillation(config, delay);
    let packer = packer(&*network, supervision.views());
    let engine = engine();
    let mut store = ParameterStore::new(&engine);
    let mut step = train_step(&engine, &network, &packer, &mut store, supervision.clone());
    let row = row(&packer);
    let outcome = step.run(&row, 1, 0.0).unwrap();
    assert!(outcome.loss.is_finite(), "{label}");
    assert_eq!(outcome.parts.len(), supervision.parts().len());
    let names: Vec<String> = step.parameters().iter().map(|p| p.name.clone()).collect();
    let gradients: Vec<Vec<f32>> = names
        .iter()
        .map(|name| step.gradient(name).unwrap().to_vec())
        .collect();
    let norm = gradients
        .iter()
        .flatten()
        .map(|&g| f64::from(g).powi(2))
        .sum::<f64>()
        .sqrt();
    assert!(norm > 1e-4, "{label}: the objective reaches the parameters");
    let size = 2e-3;
    let mut at = |sign: f64| {
        for (name, gradient) in names.iter().zip(&gradients) {
            let weights = store.get_mut(name).unwrap();
            for (weight, &g) in weights.iter_mut().zip(gradient) {
                *weight += (sign * size * f64::from(g) / norm) as f32;
            }
        }
        f64::from(step.run(&row, 1, 0.0).unwrap().loss)
    };
    let above = at(1.0);
    let below = at(-2.0);
    let expected = (above - below) / (2.0 * size);
    assert!(
        (expected - norm).abs() < 0.03 * norm + 1e-3,
        "{label}: the gradient's length is {norm}, differences along it give {expected}"
    );
}

fn only(objective: ObjectiveConfig) -> DistillConfig {
    DistillConfig {
        ctc: 0.0,
        objectives: vec![objective],
        ..DistillConfig::default()
    }
}

#[test]
fn gradients_of_every_objective() {
    use ObjectiveKind::{GuidedCtc, Hidden, IntermediateCtc, Kl, L2, Sequence};
    for kind in [Kl, L2, GuidedCtc, Sequence, Hidden] {
        check(&format!("{kind:?}"), &only(ObjectiveConfig::new(kind)), 0);
    }
    let inner = |kind| ObjectiveConfig {
        layer: Some(1),
        temperature: 2.0,
        ..ObjectiveConfig::new(kind)
    };
    for kind in [Kl, L2, GuidedCtc, Hidden, IntermediateCtc] {
        check(&format!("{kind:?} at block 1"), &only(inner(kind)), 0);
    }
    let windowed = ObjectiveConfig {
        frames: FrameSelection::Window,
        window: 1,
        ..ObjectiveConfig::new(Kl)
    };
    check("window", &only(windowed), 0);
    let together = DistillConfig {
        ctc: 1.0,
        delay_frames: Some(1),
        objectives: vec![
            ObjectiveConfig::new(Kl),
            ObjectiveConfig {
                weight: 0.5,
                frames: FrameSelection::NonBlank,
                ..ObjectiveConfig::new(L2)
            },
            inner(IntermediateCtc),
        ],
        ..DistillConfig::default()
    };
    check("together, causal", &together, 3);
}

#[test]
fn consistency_pulls_each_view_towards_the_other() {
    let shape: [usize; 4] = [1, VOCABULARY, 1, 6];
    let build = |g: &mut Graph, p: &[Value]| -> crate::Result<Value> {
        let mut net = Net::new("t", Form::Train);
        std::mem::swap(&mut net.graph, g);
        let weights = net.graph.constant(&[1, 1, 1, 3], vec![0.5, 0.0, 0.5])?;
        let inputs = Inputs {
            views: Some(weights),
            ..Inputs::default()
        };
        let built = Built {
            features: p[0],
            logits: p[0],
            hidden: Vec::new(),
            attention: None,
        };
        let step = StepGraph {
            built: &built,
            segments: p[0],
            targets: p[0],
            weights: p[0],
            ctc: p[0],
        };
        let site = Site {
            step: &step,
            inputs: &inputs,
        };
        let objective: Box<dyn Objective> =
            objective(&ObjectiveConfig::new(ObjectiveKind::Consistency));
        let loss = objective.attach(&mut net, &site);
        std::mem::swap(&mut net.graph, g);
        loss
    };
    let values = numbers(30, 3);
    let (loss, gradients) = evaluate(&[&shape], std::slice::from_ref(&values), &build);
    // The test's loss is the objective times a fixed number.
    let factor = numbers(1, 99)[0];
    let share = |frame: usize| {
        let scores: Vec<f32> = (0..VOCABULARY).map(|v| values[v * 6 + frame]).collect();
        let sum: f32 = scores.iter().map(|x| x.exp()).sum();
        scores.iter().map(|x| x.exp() / sum).collect::<Vec<f32>>()
    };
    let mut expected_loss = 0.0;
    for frame in 0..3 {
        let (a, b) = (share(frame), share(frame + 3));
        let weight = [0.5, 0.0, 0.5][frame];
        for v in 0..VOCABULARY {
            expected_loss += 0.5 * weight * (a[v] - b[v]) * (a[v] / b[v]).ln();
            for (at, difference) in [(frame, a[v] - b[v]), (frame + 3, b[v] - a[v])] {
                let found = gradients[0][v * 6 + at] / factor;
                let expected = 0.5 * weight * difference;
                assert!((found - expected).abs() < 1e-5, "{found}, {expected}");
            }
        }
    }
    assert!((loss / factor - expected_loss).abs() < 1e-5);
}

#[test]
fn two_views_train_on_both_and_compare_them() {
    let config = DistillConfig {
        objectives: vec![ObjectiveConfig::new(ObjectiveKind::Consistency)],
        ..DistillConfig::default()
    };
    let supervision = Arc::new(Distillation::new(&config, None, 0).unwrap());
    let network: Arc<dyn Network> = Arc::new(student(0));
    let packer = packer(&*network, supervision.views());
    let engine = engine();
    let mut store = ParameterStore::new(&engine);
    let mut step = train_step(&engine, &network, &packer, &mut store, supervision);
    let row = row(&packer);
    assert_eq!(row.segments.len(), 4);
    let outcome = step.run(&row, 1, 0.0).unwrap();
    assert!(outcome.parts["part.0.consistency"] > 0.0);
    let mut same = row.clone();
    for line in same.features.chunks_exact_mut(packer.width) {
        line.copy_within(..packer.width / 2, packer.width / 2);
    }
    let outcome = step.run(&same, 1, 0.0).unwrap();
    assert!(outcome.parts["part.0.consistency"].abs() < 1e-6);
}

#[test]
fn a_delay_moves_what_is_asked_for() {
    // A teacher that is certain of one symbol a frame; the student's loss is least where its outputs agree.
    let config = |delay| DistillConfig {
        ctc: 0.0,
        delay_frames: Some(delay),
        objectives: vec![ObjectiveConfig {
            frames: FrameSelection::NonBlank,
            ..ObjectiveConfig::new(ObjectiveKind::Kl)
        }],
        ..DistillConfig::default()
    };
    let network: Arc<dyn Network> = Arc::new(student(3));
    let packer = packer(&*network, 1);
    let row = row(&packer);
    let mut losses = Vec::new();
    for delay in [0, 3] {
        let engine = engine();
        let mut store = ParameterStore::new(&engine);
        let mut step = train_step(
            &engine,
            &network,
            &packer,
            &mut store,
            distillation(&config(delay), 3),
        );
        losses.push(step.run(&row, 1, 0.0).unwrap().loss);
    }
    assert_ne!(losses[0], losses[1]);
}

#[test]
fn guidance_of_other_frames_is_refused() {
    let network: Arc<dyn Network> = Arc::new(student(0));
    let packer = packer(&*network, 1);
    let mut row = packer.row();
    let features = Array2::zeros((4, 26));
    let utterance = Utterance {
        targets: vec![1],
        name: "faster".to_owned(),
        index: 0,
    };
    packer.place(&mut row, features.view(), utterance).unwrap();
    let error = Guide::Kept(guidance()).of(&row).unwrap_err();
    assert!(error.to_string().contains("faster"), "{error}");
    assert!(
        error.to_string().contains("must not move frames"),
        "{error}"
    );
}

#[test]
fn weights_move_in_a_straight_line() {
    let config = ObjectiveConfig {
        weight: 2.0,
        final_weight: Some(0.0),
        until: 0.5,
        ..ObjectiveConfig::new(ObjectiveKind::Kl)
    };
    for (progress, weight) in [(0.0, 2.0), (0.25, 1.0), (0.5, 0.0), (1.0, 0.0)] {
        assert!((config.weight_at(progress) - weight).abs() < 1e-6);
    }
}
