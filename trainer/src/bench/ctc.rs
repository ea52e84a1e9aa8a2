//! CTC loss and gradient: B = 16, T = 250, S = 40, V = 32 and 1000, as one node on ONNX Runtime's threads.

use super::{Clock, Measured, numbers};
use crate::Result;
use crate::graph::exec::{Engine, Executable, ParameterStore};
use crate::graph::{DType, Graph, gradients};

/// Measures both vocabularies.
///
/// # Errors
/// What compiling and running report.
pub fn ctc_loss(engine: &Engine, clock: Clock) -> Result<Vec<Measured>> {
    [32, 1000]
        .into_iter()
        .map(|vocabulary| {
            let value = step(engine, vocabulary, clock)?;
            Ok(Measured {
                work: format!(
                    "CTC loss and gradient, V={vocabulary}, {} thread(s)",
                    engine.threads()
                ),
                value,
                unit: clock.unit(),
            })
        })
        .collect()
}

fn step(engine: &Engine, vocabulary: usize, clock: Clock) -> Result<f64> {
    let shape = [16, vocabulary, 1, 250];
    let mut g = Graph::new("ctc");
    let mut store = ParameterStore::new(engine);
    store.insert("logits", &shape, &numbers(shape.iter().product(), 1))?;
    let logits = g.parameter("logits", &shape)?;
    let segments = g.input("segments", DType::I32, &[16, 3])?;
    let targets = g.input("targets", DType::I32, &[16, 40])?;
    let weights = g.input("weights", DType::F32, &[16])?;
    let loss = g.ctc_loss(logits, segments, targets, weights, 0)?;
    let gradient = gradients(&mut g, loss.total, &[logits])?[0];
    g.output("gradient", gradient)?;
    g.output("loss", loss.total)?;
    let mut exe = Executable::new(engine, &g, &store)?;
    batch(&mut exe, vocabulary)?;
    clock.median(30, || exe.run())
}

/// Sixteen whole rows with forty symbols each.
fn batch(exe: &mut Executable, vocabulary: usize) -> Result<()> {
    for (row, place) in exe
        .i32_mut("segments")?
        .as_chunks_mut::<3>()
        .0
        .iter_mut()
        .enumerate()
    {
        *place = [row as i32, 0, 250];
    }
    for (index, symbol) in exe.i32_mut("targets")?.iter_mut().enumerate() {
        *symbol = 1 + (index * 7 % (vocabulary - 1)) as i32;
    }
    exe.f32_mut("weights")?.fill(1.0 / 4000.0);
    Ok(())
}
