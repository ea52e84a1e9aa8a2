//! linear 80 to 192; four times (depthwise k15, layer norm, 192 to 384, SiLU, 384 to 192, residual); linear to 64.
//! 633,856 parameters in 36 tensors; 16 utterances of 250 frames, 40 symbols each.
//!
//! Activations are `[B, T, C]` throughout; only the logits are turned to `[B, V, 1, T]`, which the loss takes.

use super::{Fed, Task, rows, symbols_first};
use crate::Result;
use crate::bench::numbers;
use crate::graph::{DType, Taps};
use crate::nn::{Bias, Init, Net};

const ITEMS: usize = 16;
const FRAMES: usize = 250;
const WIDTH: usize = 192;
const SYMBOLS: usize = 64;

pub(super) fn build(net: &mut Net) -> Result<Task> {
    let input = [ITEMS, FRAMES, 80];
    let x = net.graph.input("features", DType::F32, &input)?;
    let mut x = net.linear("in", x, WIDTH, Bias::Trained)?;
    for index in 0..4 {
        let name = |part: &str| format!("block.{index}.{part}");
        let init = Init::Linear { fan_in: 15 };
        let kernel = net.parameter(&name("depthwise.weight"), &[WIDTH, 1, 1, 15], init, true)?;
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
        let y = net.graph.depthwise_rows(x, kernel, bias, taps)?;
        let y = net.layer_norm(&name("norm"), y)?;
        let y = net.linear(&name("up"), y, 2 * WIDTH, Bias::Trained)?;
        let y = net.graph.silu(y)?;
        let y = net.linear(&name("down"), y, WIDTH, Bias::Trained)?;
        x = net.graph.add(x, y)?;
        net.keep(x);
    }
    let logits = net.linear("out", x, SYMBOLS, Bias::Trained)?;
    Ok(Task {
        logits: symbols_first(net, logits)?,
        vocabulary: SYMBOLS,
        segments: rows(ITEMS, FRAMES),
        longest: 40,
        fed: vec![("features", Fed::Floats(numbers(input.iter().product(), 3)))],
    })
}
