//! Every gradient rule against central finite differences and against plain operators: see [`super::super::testing`].

mod windows;

use super::super::exec::{Executable, ParameterStore};
use super::super::op::{Binary, SliceRange, Unary, Window};
use super::super::testing::{check, engine, evaluate, numbers, same_in_plain_operators};
use super::super::{DType, Graph, Value};
use super::gradients;
use crate::Result;

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
    check("SiLU", &[&[3, 37]], false, &|g, p| g.silu(p[0]));
    check("GELU", &[&[3, 37]], false, &|g, p| g.gelu(p[0]));
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
    for x in [&[2, 3, 7][..], &[5, 40], &[67, 33], &[6]] {
        let channels = &x[x.len() - 1..];
        check(
            &format!("LayerNorm {x:?}"),
            &[x, channels, channels],
            false,
            &|g, p| g.layer_norm(p[0], p[1], p[2], 1e-5),
        );
    }
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
}

/// ReLU makes many equal zeros, of which one window's gradient must reach exactly one, or each its share.
#[test]
fn gated_linear_unit() {
    for axis in 0..3 {
        check("GLU", &[&[2, 4, 6]], false, &|g, p| g.glu(p[0], axis));
    }
    let mut g = Graph::new("odd");
    let x = g.parameter("x", &[3]).unwrap();
    assert!(g.glu(x, 0).is_err() && g.glu(x, 1).is_err());
    assert!(g.max_pool(x, Window::tiled([1, 2])).is_err());
}

#[test]
fn batch_norm() {
    let shapes: [&[usize]; 3] = [&[2, 3, 2, 11], &[3], &[3]];
    for relu in [false, true] {
        let build = |g: &mut Graph, p: &[Value]| -> Result<Value> {
            let mask = (0..44).map(|i| f32::from(u8::from(i % 5 != 2))).collect();
            let mask = g.constant(&[2, 1, 2, 11], mask)?;
            Ok(g.batch_norm(p[0], p[1], p[2], mask, 1e-3, relu)?.y)
        };
        if relu {
            // A finite difference would step over the kink.
            let values: Vec<Vec<f32>> = shapes
                .iter()
                .enumerate()
                .map(|(salt, shape)| numbers(shape.iter().product(), salt))
                .collect();
            let (loss, found) = evaluate(&shapes, &values, &build);
            same_in_plain_operators("BatchNorm, ReLU", &shapes, &values, &build, loss, &found);
        } else {
            check("BatchNorm", &shapes, false, &build);
        }
    }
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
        let ones = g.constant(&[40, 1000], vec![1.0; 40_000]).unwrap();
        let mask = g.dropout(ones, seed_value, 0.25, 3).unwrap();
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
    check("dropout", &[&[7, 13]], false, &|g, p| {
        let seed = g.input("seed", DType::I64, &[1])?;
        let y = g.dropout(p[0], seed, 0.4, 1)?;
        // Another stream draws another mask.
        let z = g.dropout(p[0], seed, 0.4, 2)?;
        g.add(y, z)
    });
}

#[test]
fn embeddings() {
    for (label, table, indices) in [
        ("one axis", &[5, 3][..], vec![1, 4, 1, 0]),
        ("a row never taken", &[4, 17], vec![0, 3, 2, 2, 2, 0]),
        ("wide rows", &[3, 2, 5], vec![2, 2]),
    ] {
        check(label, &[table], false, &|g, p| {
            let indices = g.constant_i64(&[2, indices.len() / 2], indices.clone())?;
            g.gather(p[0], indices)
        });
    }
    let mut g = Graph::new("outside");
    let mut store = ParameterStore::new(&engine());
    store.insert("table", &[4, 2], &[0.0; 8]).unwrap();
    let table = g.parameter("table", &[4, 2]).unwrap();
    let ids = g.input("ids", DType::I64, &[3]).unwrap();
    let rows = g.gather(table, ids).unwrap();
    let loss = g.sum_all(rows).unwrap();
    let gradient = gradients(&mut g, loss, &[table]).unwrap()[0];
    g.output("gradient", gradient).unwrap();
    let mut exe = Executable::new(&engine(), &g, &store).unwrap();
    exe.i64_mut("ids").unwrap().copy_from_slice(&[3, 4, 0]);
    assert!(exe.run().is_err(), "row 4 of 4");
    exe.i64_mut("ids").unwrap()[1] = -1;
    assert!(exe.run().is_err(), "rows count from 0");
    exe.i64_mut("ids").unwrap().copy_from_slice(&[3, 3, 0]);
    exe.run().unwrap();
    assert_eq!(
        exe.f32("gradient").unwrap(),
        [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 2.0, 2.0]
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
