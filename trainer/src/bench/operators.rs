//! The gradient of each operator alone, in the shapes of text and speech students: `dy` in, gradients of all operands
//! out. The forward pass is left out where the gradient does not need its result; the others say so.

use super::{Clock, Measured, numbers};
use crate::Result;
use crate::graph::exec::{Engine, Executable, ParameterStore};
use crate::graph::{ConvAttributes, DType, Graph, Taps, Value, Window, pull_back};

type Build = Box<dyn Fn(&mut Graph, &[Value]) -> Result<Value>>;

/// An operator with the shapes of its operands.
struct Case {
    name: &'static str,
    shapes: Vec<Vec<usize>>,
    /// Whether the first operand is a batch's input, which has no gradient.
    first_layer: bool,
    build: Build,
}

fn case(name: &'static str, shapes: &[&[usize]], build: Build) -> Case {
    Case {
        name,
        shapes: shapes.iter().map(|shape| shape.to_vec()).collect(),
        first_layer: false,
        build,
    }
}

fn convolution(
    name: &'static str,
    x: [usize; 4],
    w: [usize; 4],
    stride: usize,
    group: usize,
) -> Case {
    let attributes = ConvAttributes {
        strides: [stride; 2],
        pads: [w[2] / 2; 4],
        group,
        ..Default::default()
    };
    let build: Build = Box::new(move |g, p| g.conv(p[0], p[1], None, attributes.clone()));
    case(name, &[&x, &w], build)
}

/// The operators of the peer's script, in its order.
fn cases() -> Vec<Case> {
    let rows = Taps {
        left: 7,
        right: 7,
        dilation: 1,
    };
    let mut stem = convolution(
        "3x3 stride 2, 1 to 32",
        [32, 1, 32, 128],
        [32, 1, 3, 3],
        2,
        1,
    );
    stem.first_layer = true;
    vec![
        convolution("3x3, 32 to 64", [32, 32, 16, 64], [64, 32, 3, 3], 1, 1),
        convolution("3x3, 64 to 128", [32, 64, 8, 32], [128, 64, 3, 3], 1, 1),
        convolution(
            "3x3 stride 2, 32 to 64",
            [32, 32, 16, 64],
            [64, 32, 3, 3],
            2,
            1,
        ),
        stem,
        convolution("1x1, 128 to 256", [32, 128, 8, 32], [256, 128, 1, 1], 1, 1),
        convolution(
            "depthwise 5x5, 128",
            [32, 128, 8, 32],
            [128, 1, 5, 5],
            1,
            128,
        ),
        convolution("depthwise 3x3, 64", [32, 64, 16, 64], [64, 1, 3, 3], 1, 64),
        case(
            "depthwise k15 along rows, 192",
            &[&[16, 250, 192], &[192, 1, 1, 15], &[192]],
            Box::new(move |g, p| g.depthwise_rows(p[0], p[1], p[2], rows)),
        ),
        case(
            "linear, 4000 x 192 to 384",
            &[&[4000, 192], &[192, 384], &[384]],
            Box::new(|g, p| g.linear(p[0], p[1], p[2])),
        ),
        case(
            "layer norm with its forward pass, 4000 x 192",
            &[&[4000, 192], &[192], &[192]],
            Box::new(|g, p| g.layer_norm(p[0], p[1], p[2], 1e-5)),
        ),
        case(
            "SiLU, 4000 x 384",
            &[&[4000, 384]],
            Box::new(|g, p| g.silu(p[0])),
        ),
        case(
            "max pool 2x2 with its forward pass, 64",
            &[&[32, 64, 16, 64]],
            Box::new(|g, p| g.max_pool(p[0], Window::tiled([2, 2]))),
        ),
        case(
            "batch norm and ReLU with the forward pass, 64",
            &[&[32, 64, 16, 64], &[64], &[64]],
            Box::new(|g, p| {
                let mask = g.constant(&[32, 1, 16, 64], vec![1.0; 32 * 16 * 64])?;
                Ok(g.batch_norm(p[0], p[1], p[2], mask, 1e-3, true)?.y)
            }),
        ),
        case(
            "softmax with its forward pass, 64 x 250 x 250",
            &[&[64, 250, 250]],
            Box::new(|g, p| g.softmax(p[0], 2)),
        ),
        case(
            "GELU, 4000 x 384",
            &[&[4000, 384]],
            Box::new(|g, p| g.gelu(p[0])),
        ),
        case(
            "embedding, 4000 of 1000 x 192",
            &[&[1000, 192]],
            Box::new(|g, p| {
                let rows = (0..4000).map(|i| i * 7 % 1000).collect();
                let rows = g.constant_i64(&[4000], rows)?;
                g.gather(p[0], rows)
            }),
        ),
        case(
            "GRU with its forward pass, 16 x 100 x 128 to 192",
            &[&[16, 100, 128], &[128, 576], &[576], &[192, 576], &[576]],
            Box::new(|g, p| {
                let x = g.reshape(p[0], &[1600, 128])?;
                let gates = g.linear(x, p[1], p[2])?;
                let gates = g.reshape(gates, &[16, 100, 576])?;
                g.gru_steps(gates, p[3], p[4])
            }),
        ),
    ]
}

/// Measures every operator.
///
/// # Errors
/// What compiling and running report.
pub fn operators(engine: &Engine, clock: Clock) -> Result<Vec<Measured>> {
    cases()
        .iter()
        .map(|case| {
            Ok(Measured {
                work: format!("gradient of {}, {} thread(s)", case.name, engine.threads()),
                value: measure(engine, case, clock)?,
                unit: clock.unit(),
            })
        })
        .collect()
}

fn measure(engine: &Engine, case: &Case, clock: Clock) -> Result<f64> {
    let mut g = Graph::new("operator");
    let mut store = ParameterStore::new(engine);
    let mut operands = Vec::new();
    for (index, shape) in case.shapes.iter().enumerate() {
        let name = format!("p{index}");
        store.insert(&name, shape, &numbers(shape.iter().product(), index))?;
        operands.push(g.parameter(&name, shape)?);
    }
    let y = (case.build)(&mut g, &operands)?;
    let shape = g.shape(y).to_vec();
    let dy = g.input("dy", DType::F32, &shape)?;
    let wrt = &operands[usize::from(case.first_layer)..];
    for (index, gradient) in pull_back(&mut g, y, dy, wrt)?.into_iter().enumerate() {
        g.output(&format!("gradient{index}"), gradient)?;
    }
    let mut exe = Executable::new(engine, &g, &store)?;
    let count = shape.iter().product();
    exe.f32_mut("dy")?.copy_from_slice(&numbers(count, 9));
    clock.median(15, || exe.run())
}
