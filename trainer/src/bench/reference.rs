//! One training step of a reference network that PyTorch runs too: linear 80 to 192; four times (depthwise k15,
//! layer norm, 192 to 384, SiLU, 384 to 192, residual); linear to 64. 633,856 parameters in 36 tensors, 16
//! utterances of 250 frames, CTC over 40 symbols each, AdamW.
//!
//! Activations are rows `[B T, C]` throughout; only the logits are turned to `[B, V, 1, T]`, which the loss takes.

use super::ctc::batch;
use super::{Measured, median_ms, numbers};
use crate::graph::exec::{Engine, Executable, ParameterStore};
use crate::graph::{DType, Graph, Taps, Value, gradients};
use crate::nn::{Form, Init, Net, initialize};
use crate::optim::{AdamW, AdamWSettings, Moments, global_norm};
use crate::{Error, ErrorKind, Result};
use std::path::Path;

const UTTERANCES: usize = 16;
const FRAMES: usize = 250;
const ROWS: usize = UTTERANCES * FRAMES;
const WIDTH: usize = 192;
const SYMBOLS: usize = 64;

/// The compiled step with everything an update needs.
struct Reference {
    exe: Executable,
    store: ParameterStore,
    names: Vec<String>,
    moments: Vec<Moments>,
    adam: AdamW,
}

/// Measures a step: forward, CTC, backward, clipping, AdamW.
///
/// # Errors
/// What compiling and running report; [`ErrorKind::Diverged`] where the loss does not fall over the run.
pub fn train_step(engine: &Engine) -> Result<Vec<Measured>> {
    let mut reference = Reference::new(engine, None)?;
    reference.step()?;
    let first = reference.exe.f32("loss")?[0];
    let value = median_ms(15, || reference.step())?;
    let last = reference.exe.f32("loss")?[0];
    if last.is_nan() || last >= first {
        return Err(Error::new(
            ErrorKind::Diverged,
            format!("the loss went from {first} to {last}: the step does not learn"),
        ));
    }
    Ok(vec![Measured {
        work: format!(
            "train step, reference student, {} thread(s)",
            engine.threads()
        ),
        value,
        unit: "ms",
    }])
}

/// Runs a few steps under ONNX Runtime's profiler; the path of the profile.
///
/// # Errors
/// What compiling and running report.
pub fn profile(engine: &Engine, prefix: &Path) -> Result<String> {
    let mut reference = Reference::new(engine, Some(prefix))?;
    for _ in 0..10 {
        reference.step()?;
    }
    reference.exe.end_profiling()
}

impl Reference {
    fn new(engine: &Engine, profile: Option<&Path>) -> Result<Self> {
        let mut net = Net::new("reference", Form::Train);
        let x = net.graph.input("features", DType::F32, &[ROWS, 80])?;
        let logits = network(&mut net, x)?;
        let g = &mut net.graph;
        let segments = g.input("segments", DType::I32, &[UTTERANCES, 3])?;
        let targets = g.input("targets", DType::I32, &[UTTERANCES, 40])?;
        let weights = g.input("weights", DType::F32, &[UTTERANCES])?;
        let loss = g.ctc_loss(logits, segments, targets, weights, 0)?;
        let wrt = g.parameters().to_vec();
        for (parameter, gradient) in wrt.iter().zip(gradients(g, loss.total, &wrt)?) {
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
        batch(&mut exe, SYMBOLS)?;
        exe.f32_mut("features")?
            .copy_from_slice(&numbers(ROWS * 80, 3));
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

    fn step(&mut self) -> Result<()> {
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

fn linear(net: &mut Net, name: &str, x: Value, inputs: usize, outputs: usize) -> Result<Value> {
    let init = Init::Linear { fan_in: inputs };
    let weight = net.parameter(&format!("{name}.weight"), &[inputs, outputs], init, true)?;
    let bias = net.parameter(
        &format!("{name}.bias"),
        &[outputs],
        Init::Constant(0.0),
        false,
    )?;
    net.graph.linear(x, weight, bias)
}

/// `[B T, C]` to `[B, C, 1, T]`.
fn channels_first(g: &mut Graph, x: Value, channels: usize) -> Result<Value> {
    let x = g.reshape(x, &[UTTERANCES, FRAMES, channels])?;
    let x = g.transpose(x, &[0, 2, 1])?;
    g.reshape(x, &[UTTERANCES, channels, 1, FRAMES])
}

fn network(net: &mut Net, x: Value) -> Result<Value> {
    let mut x = linear(net, "in", x, 80, WIDTH)?;
    for index in 0..4 {
        let name = |part: &str| format!("block.{index}.{part}");
        let kernel = net.parameter(
            &name("depthwise.weight"),
            &[WIDTH, 1, 1, 15],
            Init::Linear { fan_in: 15 },
            true,
        )?;
        let bias = net.parameter(
            &name("depthwise.bias"),
            &[WIDTH],
            Init::Constant(0.0),
            false,
        )?;
        let taps = Taps {
            left: 7,
            right: 7,
            dilation: 1,
        };
        let y = net.graph.reshape(x, &[UTTERANCES, FRAMES, WIDTH])?;
        let y = net.graph.depthwise_rows(y, kernel, bias, taps)?;
        let y = net.graph.reshape(y, &[ROWS, WIDTH])?;
        let scale = net.parameter(&name("norm.scale"), &[WIDTH], Init::Constant(1.0), false)?;
        let bias = net.parameter(&name("norm.bias"), &[WIDTH], Init::Constant(0.0), false)?;
        let y = net.graph.layer_norm(y, scale, bias, 1e-5)?;
        let y = linear(net, &name("up"), y, WIDTH, 2 * WIDTH)?;
        let y = net.graph.silu(y)?;
        let y = linear(net, &name("down"), y, 2 * WIDTH, WIDTH)?;
        x = net.graph.add(x, y)?;
    }
    let logits = linear(net, "out", x, WIDTH, SYMBOLS)?;
    channels_first(&mut net.graph, logits, SYMBOLS)
}
