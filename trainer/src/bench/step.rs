//! One training step of a network that PyTorch runs too: forward, CTC, backward, clipping, AdamW.

use super::networks::{Fed, Network};
use super::{Clock, Measured};
use crate::graph::exec::{Engine, Executable, ParameterStore};
use crate::graph::{DType, gradients, recomputing_gradients};
use crate::nn::{Form, Net, initialize};
use crate::optim::{AdamW, AdamWSettings, Moments, global_norm};
use crate::{Error, ErrorKind, Result};
use std::path::Path;

/// What a step keeps of its forward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Activations {
    /// All that its gradients read.
    #[default]
    Kept,
    /// The boundaries that the network marks; the rest is computed again.
    Recomputed,
}

/// The compiled step with everything an update needs.
struct Step {
    exe: Executable,
    store: ParameterStore,
    names: Vec<String>,
    moments: Vec<Moments>,
    adam: AdamW,
}

/// Measures a step of `network`.
///
/// # Errors
/// What compiling and running report; [`ErrorKind::Diverged`] where the loss does not fall over the run.
pub fn train_step(
    engine: &Engine,
    network: Network,
    activations: Activations,
    clock: Clock,
) -> Result<Measured> {
    let mut step = Step::new(engine, network, activations, None)?;
    step.run()?;
    let first = step.exe.f32("loss")?[0];
    let value = clock.median(12, || step.run())?;
    let last = step.exe.f32("loss")?[0];
    if last.is_nan() || last >= first {
        return Err(Error::new(
            ErrorKind::Diverged,
            format!("the loss went from {first} to {last}: the step does not learn"),
        ));
    }
    Ok(Measured {
        work: work("train step", engine, network, activations, &step.store),
        value,
        unit: clock.unit(),
    })
}

/// Measures what the steps of `network` take in memory beyond what is there just before the first: parameters, moments
/// and the batch. In a process of its own.
///
/// # Errors
/// What compiling and running report; [`ErrorKind::Io`] where the system does not tell a process its memory.
pub fn step_memory(
    engine: &Engine,
    network: Network,
    activations: Activations,
) -> Result<Measured> {
    let mut step = Step::new(engine, network, activations, None)?;
    let before = reset_peak()?;
    for _ in 0..3 {
        step.run()?;
    }
    let megabytes = (resident("VmHWM")? - before) / 1024.0;
    Ok(Measured {
        work: work(
            "memory of a train step",
            engine,
            network,
            activations,
            &step.store,
        ),
        value: megabytes,
        unit: "MB",
    })
}

fn work(
    what: &str,
    engine: &Engine,
    network: Network,
    activations: Activations,
    store: &ParameterStore,
) -> String {
    let how = match activations {
        Activations::Kept => "",
        Activations::Recomputed => ", activations recomputed",
    };
    format!(
        "{what}, {} of {} parameters{how}, {} thread(s)",
        network.name(),
        store.elements(),
        engine.threads()
    )
}

/// Lets the peak of this process start anew; its resident memory in kB.
fn reset_peak() -> Result<f64> {
    let path = "/proc/self/clear_refs";
    std::fs::write(path, "5").map_err(|error| Error::io(path, error))?;
    resident("VmRSS")
}

/// A line of this process' status, in kB.
fn resident(key: &str) -> Result<f64> {
    let path = "/proc/self/status";
    let text = std::fs::read_to_string(path).map_err(|error| Error::io(path, error))?;
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok())
        .ok_or_else(|| Error::new(ErrorKind::Io, format!("there is no {key}")).with_path(path))
}

/// Runs a few steps under ONNX Runtime's profiler; the path of the profile.
///
/// # Errors
/// What compiling and running report.
pub fn profile(engine: &Engine, network: Network, prefix: &Path) -> Result<String> {
    let mut step = Step::new(engine, network, Activations::Kept, Some(prefix))?;
    for _ in 0..10 {
        step.run()?;
    }
    step.exe.end_profiling()
}

impl Step {
    fn new(
        engine: &Engine,
        network: Network,
        activations: Activations,
        profile: Option<&Path>,
    ) -> Result<Self> {
        let mut net = Net::new(network.name(), Form::Train);
        let task = network.build(&mut net)?;
        let kept = net.kept().to_vec();
        let g = &mut net.graph;
        let count = task.segments.len();
        let segments = g.input("segments", DType::I32, &[count, 3])?;
        let targets = g.input("targets", DType::I32, &[count, task.longest])?;
        let weights = g.input("weights", DType::F32, &[count])?;
        let loss = g.ctc_loss(task.logits, segments, targets, weights, 0)?;
        let wrt = g.parameters().to_vec();
        let found = match activations {
            Activations::Kept => gradients(g, loss.total, &wrt)?,
            Activations::Recomputed => recomputing_gradients(g, loss.total, &wrt, &kept)?,
        };
        for (parameter, gradient) in wrt.iter().zip(found) {
            let name = format!("grad.{}", g.value_name(*parameter));
            g.output(&name, gradient)?;
        }
        g.output("loss", loss.total)?;
        let mut store = ParameterStore::new(engine);
        let mut moments = Vec::new();
        for spec in net.parameters() {
            let start = initialize(spec, 1);
            store.insert(&spec.name, &spec.shape, &start)?;
            moments.push(Moments::without_average(start.len()));
        }
        let mut exe = match profile {
            Some(prefix) => Executable::with_profile(engine, &net.graph, &store, prefix)?,
            None => Executable::new(engine, &net.graph, &store)?,
        };
        for (name, fed) in &task.fed {
            match fed {
                Fed::Floats(values) => exe.f32_mut(name)?.copy_from_slice(values),
                Fed::Integers(values) => exe.i64_mut(name)?.copy_from_slice(values),
            }
        }
        let frames: usize = task.segments.iter().map(|place| place[2] as usize).sum();
        let places = exe.i32_mut("segments")?.as_chunks_mut::<3>().0;
        places.copy_from_slice(&task.segments);
        let vocabulary = task.vocabulary;
        for (index, symbol) in exe.i32_mut("targets")?.iter_mut().enumerate() {
            *symbol = 1 + (index * 7 % (vocabulary - 1)) as i32;
        }
        exe.f32_mut("weights")?.fill(1.0 / frames as f32);
        Ok(Self {
            exe,
            names: store.names().to_vec(),
            store,
            moments,
            adam: AdamW {
                settings: AdamWSettings {
                    beta1: 0.9,
                    beta2: 0.999,
                    epsilon: 1e-8,
                    weight_decay: 0.01,
                    average: 0.0,
                },
                step: 0,
            },
        })
    }

    fn run(&mut self) -> Result<()> {
        self.exe.run()?;
        let gradients = self
            .names
            .iter()
            .map(|name| self.exe.f32(&format!("grad.{name}")))
            .collect::<Result<Vec<_>>>()?;
        let norm = global_norm(gradients.iter().copied());
        let scale = (1.0 / norm.max(f32::MIN_POSITIVE)).min(1.0);
        self.adam.begin();
        for ((name, gradient), moments) in self.names.iter().zip(gradients).zip(&mut self.moments) {
            let weights = self.store.get_mut(name)?;
            self.adam
                .update(weights, gradient, moments, 1e-3, scale, true);
        }
        Ok(())
    }
}
