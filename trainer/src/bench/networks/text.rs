//! A scene-text student: 3x3 convolutions with batch norm and ReLU over gray lines `[32, 1, 32, 128]`, stride 4 along
//! the width, the height averaged away, a convolution along the line, 97 symbols. 32 lines of 8 symbols.

use super::{Fed, Task, rows};
use crate::Result;
use crate::bench::numbers;
use crate::graph::{DType, Value};
use crate::nn::{Convolution, Net};

const ITEMS: usize = 32;
const COLUMNS: usize = 32;
const SYMBOLS: usize = 97;

pub(super) fn build(net: &mut Net) -> Result<Task> {
    let input = [ITEMS, 1, 32, 128];
    let image = net.graph.input("image", DType::F32, &input)?;
    // Padding to a bucket would be zero here.
    let mut fed = vec![("image", Fed::Floats(numbers(input.iter().product(), 3)))];
    let mut mask = |net: &mut Net, name: &'static str, [h, w]: [usize; 2]| -> Result<Value> {
        fed.push((name, Fed::Floats(vec![1.0; ITEMS * h * w])));
        net.graph.input(name, DType::F32, &[ITEMS, 1, h, w])
    };
    let half = mask(net, "mask.half", [16, 64])?;
    let quarter = mask(net, "mask.quarter", [8, 32])?;
    let line = mask(net, "mask.line", [1, COLUMNS])?;
    let dense = |name: &str, outputs| Convolution::new(name, outputs, [3, 3]);
    let x = dense("stem", 32)
        .with_strides([2, 2])
        .normed()
        .apply(net, image, Some(half))?;
    let x = dense("first", 64).normed().apply(net, x, Some(half))?;
    let x = dense("second", 128)
        .with_strides([2, 2])
        .normed()
        .apply(net, x, Some(quarter))?;
    net.keep(x);
    let y = dense("block.first", 128)
        .normed()
        .apply(net, x, Some(quarter))?;
    let y = dense("block.second", 128)
        .normed()
        .linear()
        .apply(net, y, Some(quarter))?;
    let sum = net.graph.add(x, y)?;
    let x = net.graph.relu(sum)?;
    net.keep(x);
    let x = Convolution::new("widen", 256, [1, 1])
        .normed()
        .apply(net, x, Some(quarter))?;
    let x = net.graph.reduce_mean(x, &[2], true)?;
    let x = Convolution::along_time("along", 256, 3)
        .normed()
        .apply(net, x, Some(line))?;
    let logits = Convolution::new("head", SYMBOLS, [1, 1]).apply(net, x)?;
    Ok(Task {
        logits,
        vocabulary: SYMBOLS,
        segments: rows(ITEMS, COLUMNS),
        longest: 8,
        fed,
    })
}
