//! Convolutions and pooling: odd sizes, steps, padding, dilation, groups.

use crate::graph::op::{ConvAttributes, Taps, Window};
use crate::graph::testing::{check, evaluate, numbers, same_in_plain_operators};
use crate::graph::{Graph, Value};

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
            "more outputs than positions",
            [3, 2, 2, 2],
            [7, 2, 2, 1],
            plain(),
        ),
        (
            "padding beyond the kernel's reach, dilated both ways",
            [2, 2, 3, 5],
            [2, 2, 2, 2],
            ConvAttributes {
                pads: [3, 0, 1, 4],
                dilations: [2, 3],
                ..plain()
            },
        ),
        (
            "a step over most of the input",
            [1, 1, 4, 1],
            [2, 1, 1, 1],
            ConvAttributes {
                strides: [3, 6],
                pads: [0, 5, 0, 0],
                ..plain()
            },
        ),
        (
            "pointwise with a step",
            [2, 3, 5, 4],
            [2, 3, 1, 1],
            ConvAttributes {
                strides: [2, 3],
                ..plain()
            },
        ),
        (
            "a row longer than a block",
            [1, 2, 1, 1100],
            [2, 2, 1, 3],
            ConvAttributes {
                pads: [0, 2, 0, 0],
                ..plain()
            },
        ),
        (
            "groups with a step",
            [2, 4, 5, 6],
            [2, 2, 3, 2],
            ConvAttributes {
                group: 2,
                strides: [2, 2],
                pads: [1, 0, 1, 1],
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
        (
            "one channel",
            [2, 1, 7, 40],
            [11, 1, 3, 3],
            ConvAttributes {
                pads: [1, 1, 1, 1],
                strides: [2, 2],
                ..plain()
            },
        ),
        (
            "several outputs a channel",
            [2, 2, 6, 23],
            [6, 1, 3, 4],
            ConvAttributes {
                group: 2,
                pads: [1, 2, 0, 3],
                strides: [1, 3],
                dilations: [1, 2],
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

#[test]
fn pooling() {
    let window = |kernel, strides, pads| Window {
        kernel,
        strides,
        pads,
    };
    let cases = [
        ("tiled", [2, 3, 4, 6], Window::tiled([2, 2])),
        ("row", [1, 2, 1, 11], window([1, 3], [1, 2], [0, 1, 0, 1])),
        (
            "overlapping, padded",
            [2, 2, 5, 7],
            window([3, 3], [2, 2], [1, 1, 1, 1]),
        ),
        (
            "odd rest",
            [1, 3, 6, 5],
            window([2, 3], [3, 1], [0, 2, 1, 0]),
        ),
        ("whole", [2, 2, 3, 4], window([3, 4], [1, 1], [0; 4])),
    ];
    for (label, x, window) in cases {
        check(&format!("MaxPool {label}"), &[&x], false, &|g, p| {
            // Steps apart that no finite difference crosses.
            let spread = g.scale(p[0], 40.0)?;
            g.max_pool(spread, window)
        });
        check(&format!("AveragePool {label}"), &[&x], false, &|g, p| {
            g.average_pool(p[0], window)
        });
        check(
            &format!("MaxPool after ReLU {label}"),
            &[&x],
            true,
            &|g, p| {
                let shifted = g.scalar(1.2)?;
                let shifted = g.sub(p[0], shifted)?;
                let spread = g.scale(shifted, 40.0)?;
                g.max_pool(spread, window)
            },
        );
    }
    for output in [[1, 1], [2, 3], [4, 7], [3, 7]] {
        check("adaptive average", &[&[2, 3, 4, 7]], false, &|g, p| {
            g.adaptive_average_pool(p[0], output)
        });
    }
    for axes in [&[0][..], &[1, 2]] {
        for keep in [false, true] {
            check("ReduceMax", &[&[2, 3, 4]], false, &|g, p| {
                let spread = g.scale(p[0], 40.0)?;
                g.reduce_max(spread, axes, keep)
            });
        }
    }
}

#[test]
fn ties_share_or_choose() {
    let build = |g: &mut Graph, p: &[Value]| {
        let y = g.max_pool(p[0], Window::tiled([1, 3]))?;
        g.reduce_max(y, &[3], true)
    };
    let values = [vec![0.0; 6]];
    let shapes: [&[usize]; 1] = [&[1, 1, 1, 6]];
    let (loss, found) = evaluate(&shapes, &values, &build);
    same_in_plain_operators("ties", &shapes, &values, &build, loss, &found);
    let c = numbers(1, 99)[0];
    assert_eq!(found[0], [0.5 * c, 0.0, 0.0, 0.5 * c, 0.0, 0.0]);
}

#[test]
fn depthwise_convolutions_along_rows() {
    let cases = [
        ("same", [2, 11, 5], 3, [1, 1, 1]),
        ("causal dilated, odd channels", [1, 19, 17], 3, [4, 0, 2]),
        ("whole and left-over channels", [3, 9, 35], 4, [2, 1, 1]),
        ("more zeros than reach", [2, 6, 3], 2, [3, 2, 1]),
        ("no zeros, many taps", [1, 30, 16], 17, [0, 0, 1]),
        ("longer than a block", [2, 131, 2], 9, [8, 0, 1]),
    ];
    for (label, x, kernel, [left, right, dilation]) in cases {
        let w = [x[2], 1, 1, kernel];
        let taps = Taps {
            left,
            right,
            dilation,
        };
        check(label, &[&x, &w, &[x[2]]], false, &|g, p| {
            g.depthwise_rows(p[0], p[1], p[2], taps)
        });
    }
}
