//! The smallest rectangle, at any angle, around a set of points: one of its sides lies on the convex hull.

use crate::image::Quad;

/// The convex hull of some points, counter-clockwise in a plane with y down, without collinear points.
fn hull(mut points: Vec<[f32; 2]>) -> Vec<[f32; 2]> {
    points.sort_by(|a, b| a[0].total_cmp(&b[0]).then(a[1].total_cmp(&b[1])));
    points.dedup();
    if points.len() < 3 {
        return points;
    }
    let turn = |a: [f32; 2], b: [f32; 2], c: [f32; 2]| {
        (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    };
    let mut out: Vec<[f32; 2]> = Vec::new();
    let forward: Vec<_> = points.clone();
    for half in [forward, points.into_iter().rev().collect()] {
        let start = out.len();
        for point in half {
            while out.len() >= start + 2
                && turn(out[out.len() - 2], out[out.len() - 1], point) <= 0.0
            {
                out.pop();
            }
            out.push(point);
        }
        out.pop();
    }
    out
}

/// The smallest rectangle around the points, grown by `margin` on every side, its corners clockwise from the top left
/// as text is read: the side that is closest to level comes first.
pub(super) fn smallest(points: Vec<[f32; 2]>, margin: impl Fn(f32, f32) -> f32) -> Option<Quad> {
    let hull = hull(points);
    let mut best: Option<(f32, [f32; 2], [f32; 4])> = None;
    for (index, a) in hull.iter().enumerate() {
        let b = hull[(index + 1) % hull.len()];
        let length = (b[0] - a[0]).hypot(b[1] - a[1]);
        if length == 0.0 {
            continue;
        }
        let along = [(b[0] - a[0]) / length, (b[1] - a[1]) / length];
        let mut span = [f32::MAX, f32::MAX, f32::MIN, f32::MIN];
        for p in &hull {
            let (u, v) = (
                p[0] * along[0] + p[1] * along[1],
                p[1] * along[0] - p[0] * along[1],
            );
            span = [
                span[0].min(u),
                span[1].min(v),
                span[2].max(u),
                span[3].max(v),
            ];
        }
        let area = (span[2] - span[0]) * (span[3] - span[1]);
        if best.is_none_or(|(least, ..)| area < least) {
            best = Some((area, along, span));
        }
    }
    let (_, mut along, mut span) = best?;
    // A quarter turn at a time until the first side points to the right more than up or down.
    for _ in 0..4 {
        if along[0] >= along[1].abs() {
            break;
        }
        along = [along[1], -along[0]];
        span = [-span[3], span[0], -span[1], span[2]];
    }
    let grow = margin(span[2] - span[0], span[3] - span[1]);
    let [left, top, right, bottom] = [
        span[0] - grow,
        span[1] - grow,
        span[2] + grow,
        span[3] + grow,
    ];
    let corner = |u: f32, v: f32| [u * along[0] - v * along[1], u * along[1] + v * along[0]];
    Some(Quad {
        corners: [
            corner(left, top),
            corner(right, top),
            corner(right, bottom),
            corner(left, bottom),
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn turned_rectangles_are_found(
            width in 20f32..80.0, height in 5f32..18.0, degrees in -40f32..40.0, cx in -20f32..90.0, cy in -20f32..90.0,
        ) {
            let (sin, cos) = degrees.to_radians().sin_cos();
            let mut points = Vec::new();
            for i in 0..=20 {
                for j in 0..=5 {
                    let (u, v) = (width * (i as f32 / 20.0 - 0.5), height * (j as f32 / 5.0 - 0.5));
                    points.push([cx + u * cos - v * sin, cy + u * sin + v * cos]);
                }
            }
            let quad = smallest(points, |_, _| 0.0).unwrap();
            prop_assert!((quad.width() - width).abs() < 0.05 && (quad.height() - height).abs() < 0.05, "{:?}", quad);
            prop_assert!(quad.projection().is_ok());
            let [a, b, ..] = quad.corners;
            let found = (b[1] - a[1]).atan2(b[0] - a[0]).to_degrees();
            prop_assert!((found - degrees).abs() < 1.0, "{} {}", found, degrees);
        }
    }

    #[test]
    fn points_on_a_line_have_no_area() {
        assert!(smallest(vec![[1.0, 1.0]], |_, _| 1.0).is_none());
        let flat = smallest(vec![[0.0, 0.0], [4.0, 0.0], [2.0, 0.0]], |_, _| 1.0).unwrap();
        assert_eq!((flat.width(), flat.height()), (6.0, 2.0));
    }
}
