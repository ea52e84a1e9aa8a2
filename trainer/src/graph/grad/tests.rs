//! Every gradient rule against central finite differences, both run through ONNX Runtime; our own operators
//! against their forms in plain operators.
//!
//! The loss is `sum(y c)` with fixed numbers c, so that every element of y counts differently. In f32 a central
//! difference of step h is good to about `1e-6 / h + h^2`: with h = 1e-2 the tolerance is 1e-2 of the largest
//! gradient.

use super::super::exec::{Engine, Executable, ParameterStore};
use super::super::op::{Binary, ConvAttributes, SliceRange, Unary};
use super::super::{DType, Graph, Value};
use super::gradients;
use crate::Result;
use acolyte::model::Library;

fn engine() -> Engine {
    Engine::new(
        &Library::find().expect("run `cargo xtask setup` first: the tests need libonnxruntime"),
        1,
    )
}

/// Numbers in about +-1 without repeats, different for each salt.
fn numbers(count: usize, salt: usize) -> Vec<f32> {
    (0..count)
        .map(|i| {
            let x = ((i * 7919 + salt * 104_729 + 13) % 2003) as f32 / 1001.5 - 1.0;
            x + 0.05 * x.signum()
        })
        .collect()
}

type Build<'a> = &'a dyn Fn(&mut Graph, &[Value]) -> Result<Value>;

/// The loss and its gradients at the given parameter values.
fn evaluate(
    shapes: &[&[usize]],
    values: &[Vec<f32>],
    build: Build<'_>,
    with_gradients: bool,
) -> (f32, Vec<Vec<f32>>) {
    let mut g = Graph::new("test");
    let mut store = ParameterStore::new(&engine());
    let mut parameters = Vec::new();
    for (index, (shape, data)) in shapes.iter().zip(values).enumerate() {
        let name = format!("p{index}");
        store.insert(&name, shape, data).unwrap();
        parameters.push(g.parameter(&name, shape).unwrap());
    }
    let y = build(&mut g, &parameters).unwrap();
    let shape = g.shape(y).to_vec();
    let count = shape.iter().product();
    let c = g.constant(&shape, numbers(count, 99)).unwrap();
    let product = g.mul(y, c).unwrap();
    let loss = g.sum_all(product).unwrap();
    let mut names = Vec::new();
    if with_gradients {
        for (index, gradient) in gradients(&mut g, loss, &parameters)
            .unwrap()
            .into_iter()
            .enumerate()
        {
            let name = format!("grad{index}");
            g.output(&name, gradient).unwrap();
            names.push(name);
        }
    }
    g.output("loss", loss).unwrap();
    let mut run = Executable::new(&engine(), &g, &store).unwrap();
    run.run().unwrap();
    let found = names
        .iter()
        .map(|name| run.f32(name).unwrap().to_vec())
        .collect();
    (run.f32("loss").unwrap()[0], found)
}

/// Compares every gradient with finite differences; `positive` moves the operands into [0.5, 2].
fn check(label: &str, shapes: &[&[usize]], positive: bool, build: Build<'_>) {
    let mut values: Vec<Vec<f32>> = shapes
        .iter()
        .enumerate()
        .map(|(salt, shape)| numbers(shape.iter().product(), salt))
        .collect();
    if positive {
        for value in values.iter_mut().flatten() {
            *value = 1.25 + 0.7 * *value;
        }
    }
    let (_, found) = evaluate(shapes, &values, build, true);
    let step = 1e-2;
    for parameter in 0..shapes.len() {
        let largest = found[parameter].iter().fold(0.1f32, |a, b| a.max(b.abs()));
        // A spread of elements, first and last included.
        let count = values[parameter].len();
        let stride = count.div_ceil(12);
        for element in (0..count).step_by(stride).chain([count - 1]) {
            let original = values[parameter][element];
            values[parameter][element] = original + step;
            let (above, _) = evaluate(shapes, &values, build, false);
            values[parameter][element] = original - step;
            let (below, _) = evaluate(shapes, &values, build, false);
            values[parameter][element] = original;
            let expected = (above - below) / (2.0 * step);
            let error = (found[parameter][element] - expected).abs();
            assert!(
                error < 1e-2 * largest,
                "{label}: d loss / d p{parameter}[{element}] is {}, differences give {expected}",
                found[parameter][element]
            );
        }
    }
}

#[test]
fn elementwise() {
    for function in [
        Unary::Identity,
        Unary::Relu,
        Unary::Sigmoid,
        Unary::Tanh,
        Unary::Exp,
        Unary::Log,
        Unary::Sqrt,
        Unary::Reciprocal,
        Unary::Neg,
        Unary::Erf,
        Unary::Abs,
    ] {
        let positive = matches!(function, Unary::Log | Unary::Sqrt | Unary::Reciprocal);
        check(&format!("{function:?}"), &[&[3, 5]], positive, &|g, p| {
            g.unary(function, p[0])
        });
    }
    for function in [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div] {
        for shapes in [
            [&[2, 3, 4][..], &[2, 3, 4]],
            [&[2, 3, 4], &[3, 1]],
            [&[1, 4], &[2, 3, 1]],
        ] {
            check(
                &format!("{function:?} {shapes:?}"),
                &shapes,
                true,
                &|g, p| g.binary(function, p[0], p[1]),
            );
        }
    }
    check("SiLU", &[&[7]], false, &|g, p| g.silu(p[0]));
    check("GELU", &[&[7]], false, &|g, p| g.gelu(p[0]));
    check("Where", &[&[2, 3], &[3]], false, &|g, p| {
        let condition = g.greater(p[0], p[1])?;
        g.select(condition, p[0], p[1])
    });
}

#[test]
fn matrices() {
    check("MatMul", &[&[2, 3, 4], &[2, 4, 5]], false, &|g, p| {
        g.matmul(p[0], p[1])
    });
    check(
        "MatMul broadcast",
        &[&[2, 2, 3, 4], &[4, 5]],
        false,
        &|g, p| g.matmul(p[0], p[1]),
    );
    for (ta, tb) in [(false, false), (false, true), (true, false), (true, true)] {
        let a: &[usize] = if ta { &[4, 3] } else { &[3, 4] };
        let b: &[usize] = if tb { &[5, 4] } else { &[4, 5] };
        check(&format!("Gemm {ta} {tb}"), &[a, b], false, &|g, p| {
            g.gemm(p[0], p[1], ta, tb)
        });
    }
    check("linear", &[&[5, 3], &[3, 4], &[4]], false, &|g, p| {
        g.linear(p[0], p[1], p[2])
    });
    for axis in 0..3 {
        check("Softmax", &[&[2, 3, 4]], false, &|g, p| {
            g.softmax(p[0], axis)
        });
        check("LogSoftmax", &[&[2, 3, 4]], false, &|g, p| {
            g.log_softmax(p[0], axis)
        });
    }
    check("LayerNorm", &[&[2, 3, 7], &[7], &[7]], false, &|g, p| {
        g.layer_norm(p[0], p[1], p[2], 1e-5)
    });
}

#[test]
fn reductions_and_moves() {
    for axes in [&[0][..], &[1, 2], &[0, 1, 2]] {
        for keep in [false, true] {
            check("ReduceSum", &[&[2, 3, 4]], false, &|g, p| {
                g.reduce_sum(p[0], axes, keep)
            });
            check("ReduceMean", &[&[2, 3, 4]], false, &|g, p| {
                g.reduce_mean(p[0], axes, keep)
            });
        }
    }
    check("Reshape", &[&[2, 6]], false, &|g, p| {
        g.reshape(p[0], &[3, 4])
    });
    check("Transpose", &[&[2, 3, 4]], false, &|g, p| {
        g.transpose(p[0], &[2, 0, 1])
    });
    check("Concat", &[&[2, 3], &[2, 4]], false, &|g, p| {
        g.concat(&[p[0], p[1], p[0]], 1)
    });
    check("Pad", &[&[2, 3]], false, &|g, p| {
        g.pad(p[0], &[1, 0], &[0, 2])
    });
    check("Expand", &[&[3, 1]], false, &|g, p| {
        g.expand(p[0], &[2, 3, 4])
    });
    let range = |start, length, step| SliceRange {
        start,
        length,
        step,
    };
    for second in [
        range(1, 3, 1),
        range(0, 3, 2),
        range(1, 2, 3),
        range(5, 3, -2),
        range(5, 6, -1),
    ] {
        check(&format!("Slice {second:?}"), &[&[3, 6]], false, &|g, p| {
            g.slice(p[0], &[range(1, 2, 1), second])
        });
    }
    check("Gather", &[&[5, 3]], false, &|g, p| {
        // Index 1 twice: its gradients add up.
        let data = super::super::Literal::I64(vec![1, 4, 1, 0]);
        let indices = g.declare(
            "i",
            DType::I64,
            &[2, 2],
            super::super::Origin::Constant(data),
        )?;
        g.gather(p[0], indices)
    });
}

#[test]
fn convolutions() {
    let plain = ConvAttributes::default;
    let cases = [
        (
            "dense",
            [2, 3, 5, 7],
            [4, 3, 3, 3],
            ConvAttributes {
                pads: [1, 1, 1, 1],
                ..plain()
            },
        ),
        ("pointwise", [2, 3, 4, 5], [6, 3, 1, 1], plain()),
        (
            "stride",
            [2, 3, 7, 8],
            [4, 3, 3, 3],
            ConvAttributes {
                strides: [2, 2],
                pads: [1, 1, 1, 1],
                ..plain()
            },
        ),
        (
            "stride that leaves a rest",
            [1, 2, 1, 10],
            [3, 2, 1, 5],
            ConvAttributes {
                strides: [1, 3],
                pads: [0, 1, 0, 0],
                ..plain()
            },
        ),
        (
            "causal row",
            [1, 3, 1, 16],
            [5, 3, 1, 5],
            ConvAttributes {
                pads: [0, 4, 0, 0],
                ..plain()
            },
        ),
        (
            "causal dilated row",
            [1, 3, 1, 16],
            [5, 3, 1, 3],
            ConvAttributes {
                pads: [0, 4, 0, 0],
                dilations: [1, 2],
                ..plain()
            },
        ),
        (
            "causal strided row",
            [1, 3, 1, 16],
            [5, 3, 1, 5],
            ConvAttributes {
                pads: [0, 3, 0, 0],
                strides: [1, 2],
                ..plain()
            },
        ),
        (
            "more padding than reach",
            [1, 2, 1, 6],
            [3, 2, 1, 2],
            ConvAttributes {
                pads: [0, 3, 0, 3],
                ..plain()
            },
        ),
        (
            "groups",
            [2, 4, 5, 6],
            [6, 2, 3, 2],
            ConvAttributes {
                group: 2,
                pads: [1, 0, 1, 1],
                ..plain()
            },
        ),
        (
            "depthwise",
            [2, 4, 5, 6],
            [4, 1, 3, 3],
            ConvAttributes {
                group: 4,
                pads: [1, 1, 1, 1],
                ..plain()
            },
        ),
        (
            "depthwise stride dilation",
            [2, 4, 9, 8],
            [4, 1, 3, 2],
            ConvAttributes {
                group: 4,
                pads: [2, 0, 1, 1],
                strides: [2, 3],
                dilations: [2, 1],
            },
        ),
    ];
    for (label, x, w, attributes) in cases {
        let bias = [w[0]];
        check(label, &[&x, &w, &bias], false, &|g, p| {
            g.conv(p[0], p[1], Some(p[2]), attributes.clone())
        });
    }
}

/// Batch norm in plain operators: what the kernel must equal.
fn plain_batch_norm(g: &mut Graph, p: &[Value], mask: Value, relu: bool) -> Result<Value> {
    let channels = g.shape(p[1])[0];
    let count = g.reduce_sum(mask, &[0, 1, 2, 3], true)?;
    let masked = g.mul(p[0], mask)?;
    let sum = g.reduce_sum(masked, &[0, 2, 3], true)?;
    let mean = g.div(sum, count)?;
    let centered = g.sub(p[0], mean)?;
    let square = g.mul(centered, centered)?;
    let square = g.mul(square, mask)?;
    let sum = g.reduce_sum(square, &[0, 2, 3], true)?;
    let variance = g.div(sum, count)?;
    let epsilon = g.scalar(1e-3)?;
    let variance = g.add(variance, epsilon)?;
    let deviation = g.unary(Unary::Sqrt, variance)?;
    let normed = g.div(centered, deviation)?;
    let scale = g.reshape(p[1], &[1, channels, 1, 1])?;
    let bias = g.reshape(p[2], &[1, channels, 1, 1])?;
    let scaled = g.mul(normed, scale)?;
    let mut y = g.add(scaled, bias)?;
    if relu {
        y = g.relu(y)?;
    }
    g.mul(y, mask)
}

#[test]
fn batch_norm() {
    let shapes: [&[usize]; 3] = [&[2, 3, 2, 11], &[3], &[3]];
    let mask_of = |g: &mut Graph| {
        let mask = (0..44).map(|i| f32::from(u8::from(i % 5 != 2))).collect();
        g.constant(&[2, 1, 2, 11], mask)
    };
    let values: Vec<Vec<f32>> = shapes
        .iter()
        .enumerate()
        .map(|(salt, shape)| numbers(shape.iter().product(), salt))
        .collect();
    for relu in [false, true] {
        let kernel = |g: &mut Graph, p: &[Value]| -> Result<Value> {
            let mask = mask_of(g)?;
            Ok(g.batch_norm(p[0], p[1], p[2], mask, 1e-3, relu)?.y)
        };
        let plain = |g: &mut Graph, p: &[Value]| -> Result<Value> {
            let mask = mask_of(g)?;
            plain_batch_norm(g, p, mask, relu)
        };
        let (loss, ours) = evaluate(&shapes, &values, &kernel, true);
        let (expected_loss, expected) = evaluate(&shapes, &values, &plain, true);
        assert!((loss - expected_loss).abs() < 1e-4);
        for (ours, expected) in ours.iter().flatten().zip(expected.iter().flatten()) {
            assert!((ours - expected).abs() < 1e-4, "{ours} against {expected}");
        }
    }
    check("BatchNorm", &shapes, false, &|g, p| {
        let mask = mask_of(g)?;
        Ok(g.batch_norm(p[0], p[1], p[2], mask, 1e-3, false)?.y)
    });
}

#[test]
fn ctc_of_a_packed_row() {
    let integers = |g: &mut Graph, name: &str, shape: &[usize]| g.input(name, DType::I32, shape);
    let run = |values: &[f32], with_gradient: bool| {
        let mut g = Graph::new("ctc");
        let mut store = ParameterStore::new(&engine());
        store.insert("x", &[2, 4, 1, 9], values).unwrap();
        let x = g.parameter("x", &[2, 4, 1, 9]).unwrap();
        let segments = integers(&mut g, "segments", &[4, 3]).unwrap();
        let targets = integers(&mut g, "targets", &[4, 3]).unwrap();
        let weights = g.input("weights", DType::F32, &[4]).unwrap();
        let ctc = g.ctc_loss(x, segments, targets, weights, 2).unwrap();
        let half = g.scale(ctc.total, 0.5).unwrap();
        if with_gradient {
            let gradient = gradients(&mut g, half, &[x]).unwrap()[0];
            g.output("gradient", gradient).unwrap();
        }
        g.output("loss", half).unwrap();
        g.output("losses", ctc.losses).unwrap();
        let mut exe = Executable::new(&engine(), &g, &store).unwrap();
        exe.i32_mut("segments")
            .unwrap()
            .copy_from_slice(&[0, 0, 4, 0, 5, 4, 1, 2, 2, 0, 0, 0]);
        exe.i32_mut("targets")
            .unwrap()
            .copy_from_slice(&[0, 1, -1, 3, -1, -1, 1, 1, 1, -1, -1, -1]);
        exe.f32_mut("weights")
            .unwrap()
            .copy_from_slice(&[1.0, 0.25, 1.0, 1.0]);
        exe.run().unwrap();
        let gradient = if with_gradient {
            exe.f32("gradient").unwrap().to_vec()
        } else {
            Vec::new()
        };
        (
            exe.f32("loss").unwrap()[0],
            exe.f32("losses").unwrap().to_vec(),
            gradient,
        )
    };
    let mut values = numbers(72, 5);
    let (_, losses, gradient) = run(&values, true);
    assert!(losses[0].is_finite() && losses[1].is_finite());
    assert!(
        losses[2].is_infinite(),
        "three equal symbols do not fit two frames"
    );
    assert_eq!(losses[3], 0.0, "an unused place");
    for element in 0..72 {
        let original = values[element];
        values[element] = original + 1e-2;
        let above = run(&values, false).0;
        values[element] = original - 1e-2;
        let below = run(&values, false).0;
        values[element] = original;
        let expected = (above - below) / 2e-2;
        assert!(
            (gradient[element] - expected).abs() < 2e-3,
            "element {element}"
        );
    }
}

#[test]
fn dropout_is_reproducible_and_unbiased() {
    let run = |seed: i64| {
        let mut g = Graph::new("dropout");
        let seed_value = g.input("seed", DType::I64, &[1]).unwrap();
        let mask = g.dropout_mask(seed_value, 0.25, 3, &[40, 1000]).unwrap();
        g.output("mask", mask).unwrap();
        let mut exe = Executable::new(&engine(), &g, &ParameterStore::new(&engine())).unwrap();
        exe.i64_mut("seed").unwrap()[0] = seed;
        exe.run().unwrap();
        exe.f32("mask").unwrap().to_vec()
    };
    let mask = run(7);
    assert_eq!(mask, run(7));
    assert_ne!(mask, run(8));
    let zeros = mask.iter().filter(|&&m| m == 0.0).count() as f32 / 40_000.0;
    assert!((zeros - 0.25).abs() < 0.01, "{zeros}");
    assert!(
        mask.iter()
            .all(|&m| m == 0.0 || (m - 4.0 / 3.0).abs() < 1e-6)
    );
}

#[test]
fn mistakes_are_errors() {
    let mut g = Graph::new("bad");
    let a = g.parameter("a", &[2, 3]).unwrap();
    let b = g.parameter("b", &[2, 4]).unwrap();
    assert!(g.add(a, b).is_err());
    assert!(g.matmul(a, b).is_err());
    assert!(g.reshape(a, &[7]).is_err());
    assert!(g.parameter("a", &[1]).is_err(), "a name taken twice");
    assert!(gradients(&mut g, a, &[a]).is_err(), "not a scalar");
    let loss = g.sum_all(a).unwrap();
    let error = gradients(&mut g, loss, &[b]).unwrap_err();
    assert!(error.to_string().contains("does not reach"), "{error}");
}
