//! Places in an image: four corners, and the projective map between them and a rectangle.

use crate::{Error, ErrorKind, Result};

/// Four corners in pixels: top left, top right, bottom right, bottom left of what stands there, as it is read.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Quad {
    /// The corners, each (x, y).
    pub corners: [[f32; 2]; 4],
}

/// Largest coordinate, so that no product overflows.
const MAX_COORDINATE: f32 = 1e6;

/// The least area in pixels: less holds no text.
const MIN_AREA: f32 = 0.5;

impl Quad {
    /// An upright rectangle.
    pub fn rectangle(left: f32, top: f32, width: f32, height: f32) -> Self {
        let (right, bottom) = (left + width, top + height);
        Self {
            corners: [[left, top], [right, top], [right, bottom], [left, bottom]],
        }
    }

    /// Mean length of the upper and lower side.
    pub fn width(&self) -> f32 {
        let [a, b, c, d] = self.corners;
        0.5 * (distance(a, b) + distance(d, c))
    }

    /// Mean length of the left and right side.
    pub fn height(&self) -> f32 {
        let [a, b, c, d] = self.corners;
        0.5 * (distance(a, d) + distance(b, c))
    }

    /// Left, top, right and bottom of the smallest upright rectangle around it.
    pub fn bounds(&self) -> [f32; 4] {
        let mut out = [
            f32::INFINITY,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::NEG_INFINITY,
        ];
        for [x, y] in self.corners {
            out = [out[0].min(x), out[1].min(y), out[2].max(x), out[3].max(y)];
        }
        out
    }

    /// The map that takes the unit square to this place: (0, 0) to the first corner, (1, 0) to the second.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for corners that are not finite or absurdly far, that cross, turn
    /// counter-clockwise, or lie on a line: no picture can be made of those.
    pub fn projection(&self) -> Result<Projection> {
        let refuse = |what: &str| {
            Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "the quad {:?} {what}: give the corners clockwise, from the top left of the text",
                    self.corners
                ),
            ))
        };
        let sane = |c: &f32| c.abs() <= MAX_COORDINATE;
        if !self.corners.as_flattened().iter().all(sane) {
            return refuse("has a corner that is not a finite number of sane size");
        }
        let mut turns = [0.0f32; 4];
        for (index, turn) in turns.iter_mut().enumerate() {
            let [a, b, c] = [0, 1, 2].map(|step| self.corners[(index + step) % 4]);
            *turn = (b[0] - a[0]) * (c[1] - b[1]) - (b[1] - a[1]) * (c[0] - b[0]);
        }
        if turns.iter().all(|turn| turn.abs() < MIN_AREA) {
            return refuse("has no area");
        }
        if turns.iter().all(|&turn| turn < 0.0) {
            return refuse("turns counter-clockwise");
        }
        if turns.iter().any(|&turn| turn < MIN_AREA) {
            return refuse("crosses itself, is bent inwards, or has three corners on a line");
        }
        Ok(Projection::onto(self.corners))
    }
}

fn distance(a: [f32; 2], b: [f32; 2]) -> f32 {
    (a[0] - b[0]).hypot(a[1] - b[1])
}

/// A projective map of the plane: `(x, y)` to `((a x + b y + c) / w, (d x + e y + f) / w)`, `w = g x + h y + 1`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Projection {
    rows: [[f64; 3]; 3],
}

impl Projection {
    /// The map of the unit square onto convex corners (Heckbert 1989, section 2.2.3).
    fn onto(corners: [[f32; 2]; 4]) -> Self {
        let [p0, p1, p2, p3] = corners.map(|p| p.map(f64::from));
        let sum = [0, 1].map(|i| p0[i] - p1[i] + p2[i] - p3[i]);
        let (d1, d2) = ([0, 1].map(|i| p1[i] - p2[i]), [0, 1].map(|i| p3[i] - p2[i]));
        let determinant = d1[0] * d2[1] - d1[1] * d2[0];
        let g = (sum[0] * d2[1] - sum[1] * d2[0]) / determinant;
        let h = (d1[0] * sum[1] - d1[1] * sum[0]) / determinant;
        let row = |i: usize| [p1[i] - p0[i] + g * p1[i], p3[i] - p0[i] + h * p3[i], p0[i]];
        Self {
            rows: [row(0), row(1), [g, h, 1.0]],
        }
    }

    /// Where a point goes.
    pub fn apply(&self, x: f32, y: f32) -> [f32; 2] {
        let (x, y) = (f64::from(x), f64::from(y));
        let [u, v, w] = self.rows.map(|[a, b, c]| a * x + b * y + c);
        [(u / w) as f32, (v / w) as f32]
    }

    /// The part of the place between two fractions of its width.
    pub fn part(&self, from: f32, to: f32) -> Quad {
        Quad {
            corners: [[from, 0.0], [to, 0.0], [to, 1.0], [from, 1.0]]
                .map(|[x, y]| self.apply(x, y)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_makes_no_picture_is_refused() {
        let cases: [([[f32; 2]; 4], &str); 7] = [
            ([[0.0, 0.0], [9.0, 9.0], [9.0, 0.0], [0.0, 9.0]], "crosses"),
            ([[0.0, 0.0], [5.0, 5.0], [9.0, 9.0], [2.0, 2.0]], "no area"),
            ([[3.0, 3.0]; 4], "no area"),
            (
                [[0.0, 0.0], [0.0, 9.0], [9.0, 9.0], [9.0, 0.0]],
                "counter-clockwise",
            ),
            ([[0.0, 0.0], [9.0, 0.0], [2.0, 2.0], [0.0, 9.0]], "bent"),
            ([[0.0, 0.0], [9.0, 0.0], [18.0, 0.0], [0.0, 9.0]], "line"),
            (
                [[f32::NAN, 0.0], [9.0, 0.0], [9.0, 9.0], [0.0, 9.0]],
                "finite",
            ),
        ];
        for (corners, says) in cases {
            let error = Quad { corners }.projection().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(error.to_string().contains(says), "{error}");
        }
    }

    proptest! {
        #[test]
        fn corners_go_to_corners_and_lines_stay_straight(
            left in -50f32..50.0, top in -50f32..50.0, width in 4f32..90.0, height in 4f32..90.0,
            moves in proptest::array::uniform8(-0.2f32..0.2), at in 0f32..1.0,
        ) {
            let mut quad = Quad::rectangle(left, top, width, height);
            for (corner, by) in quad.corners.iter_mut().zip(moves.as_chunks::<2>().0) {
                corner[0] += by[0] * width;
                corner[1] += by[1] * height;
            }
            let map = quad.projection().unwrap();
            for (corner, [x, y]) in quad.corners.iter().zip([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]) {
                let found = map.apply(x, y);
                prop_assert!(distance(found, *corner) < 1e-3);
            }
            let (a, b, point) = (quad.corners[0], quad.corners[1], map.apply(at, 0.0));
            let off = (b[0] - a[0]) * (point[1] - a[1]) - (b[1] - a[1]) * (point[0] - a[0]);
            prop_assert!(off.abs() / distance(a, b) < 1e-2);
        }
    }
}
