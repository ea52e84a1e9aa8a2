//! Gradient rules of pooling and of the largest value along axes.

use super::Site;
use crate::Result;
use crate::graph::op::{ConvAttributes, Op, Window};
use crate::graph::{Graph, Value};

/// All of dy goes to where the largest value stood.
pub(super) fn max_pool(
    g: &mut Graph,
    window: Window,
    site: &Site<'_>,
) -> Result<Vec<Option<Value>>> {
    let (x, y, dy) = (site.inputs[0], site.outputs[0], site.dy()?);
    let shape = g.shape(x).to_vec();
    Ok(vec![Some(g.node1(
        Op::MaxPoolGrad(window),
        &[x, y, dy],
        shape,
    ))])
}

/// dy, divided by the number of positions its window sees, is laid over the window: a transposed convolution with ones.
pub(super) fn average_pool(
    g: &mut Graph,
    window: Window,
    site: &Site<'_>,
) -> Result<Vec<Option<Value>>> {
    let (x, dy) = (site.inputs[0], site.dy()?);
    let (&[b, channels, h, w], &[_, _, ho, wo]) = (g.shape(x), g.shape(dy)) else {
        return Err(g.mismatch("a pooling's gradient", "four axes", &[x, dy]));
    };
    let shares = window.counts([h, w], [ho, wo]);
    let shares = shares.iter().map(|count| 1.0 / count).collect();
    let shares = g.constant(&[1, 1, ho, wo], shares)?;
    let share = g.mul(dy, shares)?;
    let [kh, kw] = window.kernel;
    let ones = g.constant(&[channels, 1, kh, kw], vec![1.0; channels * kh * kw])?;
    let attributes = ConvAttributes {
        strides: window.strides,
        pads: window.pads,
        dilations: [1, 1],
        group: channels,
    };
    // Rows that no window reaches have no gradient; the transposed convolution leaves out at most a stride of them.
    Ok(vec![Some(g.conv_transpose(
        share,
        ones,
        attributes,
        &[b, channels, h, w],
    )?)])
}

/// dy goes to the largest value; equal ones share it.
pub(super) fn reduce_max(
    g: &mut Graph,
    axes: &[usize],
    site: &Site<'_>,
) -> Result<Vec<Option<Value>>> {
    let (x, y, dy) = (site.inputs[0], site.outputs[0], site.dy()?);
    let mut kept = g.shape(x).to_vec();
    for &axis in axes {
        kept[axis] = 1;
    }
    let (y, dy) = (g.reshape(y, &kept)?, g.reshape(dy, &kept)?);
    let largest = g.equal(x, y)?;
    let (one, zero) = (g.scalar(1.0)?, g.scalar(0.0)?);
    let hits = g.select(largest, one, zero)?;
    let count = g.reduce_sum(hits, axes, true)?;
    let share = g.div(dy, count)?;
    Ok(vec![Some(g.mul(hits, share)?)])
}
