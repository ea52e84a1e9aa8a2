//! An Oracle Teacher (arXiv 2111.03664, our reading of it): convolutions with batch norm and ReLU over the speech
//! `[16, 80, 1, 500]`, halved in time; an embedding and two pre-norm layers of self-attention with relative positions
//! over the 40 symbols of the text; one layer of cross-attention from frames to symbols; 64 symbols out.

use super::{Fed, Task, rows, symbols_first};
use crate::Result;
use crate::bench::numbers;
use crate::graph::{DType, Value};
use crate::nn::{Attention, Bias, Convolution, Net};

const ITEMS: usize = 16;
const FRAMES: usize = 250;
const WIDTH: usize = 192;
const HEADS: usize = 4;
const SYMBOLS: usize = 64;
const LENGTH: usize = 40;

pub(super) fn build(net: &mut Net) -> Result<Task> {
    let input = [ITEMS, 80, 1, 2 * FRAMES];
    let features = net.graph.input("features", DType::F32, &input)?;
    let frames = net
        .graph
        .input("frame_mask", DType::F32, &[ITEMS, 1, 1, FRAMES])?;
    let ids = net.graph.input("ids", DType::I64, &[ITEMS, LENGTH])?;
    let mask = net
        .graph
        .input("symbol_mask", DType::F32, &[ITEMS, LENGTH])?;
    let queries = speech(net, features, frames)?;
    let memory = text(net, ids, mask)?;
    let attended = net.layer_norm("cross.norm", queries)?;
    let attended = Attention::new("cross", HEADS).cross(net, attended, memory, Some(mask))?;
    let x = net.graph.add(queries, attended)?;
    let x = feed_forward(net, "cross", x)?;
    let x = net.layer_norm("norm", x)?;
    let logits = net.linear("out", x, SYMBOLS, Bias::Trained)?;
    let ids = (0..ITEMS * LENGTH).map(|i| 1 + (i * 7 % (SYMBOLS - 1)) as i64);
    Ok(Task {
        logits: symbols_first(net, logits)?,
        vocabulary: SYMBOLS,
        segments: rows(ITEMS, FRAMES),
        longest: LENGTH,
        fed: vec![
            ("features", Fed::Floats(numbers(input.iter().product(), 3))),
            ("frame_mask", Fed::Floats(vec![1.0; ITEMS * FRAMES])),
            ("ids", Fed::Integers(ids.collect())),
            ("symbol_mask", Fed::Floats(vec![1.0; ITEMS * LENGTH])),
        ],
    })
}

/// `[B, 80, 1, 2 T]` to `[B, T, D]`: a stem of stride 2 and four residual convolutions.
fn speech(net: &mut Net, features: Value, mask: Value) -> Result<Value> {
    let mut x = Convolution::along_time("stem", WIDTH, 5)
        .with_strides([1, 2])
        .normed()
        .apply(net, features, Some(mask))?;
    for index in 0..4 {
        let layer = Convolution::along_time(&format!("block.{index}"), WIDTH, 5).normed();
        let y = layer.apply(net, x, Some(mask))?;
        x = net.graph.add(x, y)?;
        net.keep(x);
    }
    let x = net.graph.reshape(x, &[ITEMS, WIDTH, FRAMES])?;
    net.graph.transpose(x, &[0, 2, 1])
}

/// `[B, S]` to `[B, S, D]`.
fn text(net: &mut Net, ids: Value, mask: Value) -> Result<Value> {
    let mut x = net.embedding("symbols", ids, SYMBOLS, WIDTH)?;
    for index in 0..2 {
        let name = format!("text.{index}");
        let y = net.layer_norm(&format!("{name}.norm"), x)?;
        let attention = Attention::new(&name, HEADS).with_reach(16);
        let y = attention.itself(net, y, Some(mask))?;
        x = net.graph.add(x, y)?;
        x = feed_forward(net, &name, x)?;
    }
    Ok(x)
}

/// `x + W2 silu(W1 norm(x))`.
fn feed_forward(net: &mut Net, name: &str, x: Value) -> Result<Value> {
    let y = net.layer_norm(&format!("{name}.feed.norm"), x)?;
    let y = net.linear(&format!("{name}.up"), y, 2 * WIDTH, Bias::Trained)?;
    let y = net.graph.silu(y)?;
    let y = net.linear(&format!("{name}.down"), y, WIDTH, Bias::Trained)?;
    net.graph.add(x, y)
}
