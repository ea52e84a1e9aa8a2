//! Scaling of 8-bit pixels by two neighbors along each axis, in the fixed point that `cv2.resize` uses by default.
//!
//! Output column x lies at `u = (x + 0.5) W / w - 0.5` of the source, between columns `floor(u)` and the next; its
//! weights are rounded to 11 bits, sums of a row have 11 bits more than a pixel, and the sum of two rows is rounded to a
//! whole gray level: `((b0 (S0 >> 4)) >> 16) + ((b1 (S1 >> 4)) >> 16) + 2) >> 2`. Models trained with OpenCV have seen
//! nothing else, and a network of many layers does not forgive other pixels everywhere.

use crate::image::ImageView;
use crate::spec::ImageChannels;
use ndarray::Array2;

/// One in the fixed point of weights.
const ONE: f32 = 2048.0;

/// Neighbors and weights of every position along an axis.
struct Axis {
    /// The source position, its neighbor, and both weights.
    taps: Vec<(usize, usize, i32, i32)>,
}

impl Axis {
    /// `stop` says whether weights end at the last source position (columns) or its neighbor is repeated (rows): the
    /// two differ in rounding alone.
    fn new(source: usize, target: usize, stop: bool) -> Self {
        let scale = 1.0 / (target as f64 / source as f64);
        let last = source - 1;
        let taps = (0..target).map(|out| {
            let at = ((out as f64 + 0.5) * scale - 0.5) as f32;
            let floor = at.floor();
            let mut fraction = at - floor;
            let below = floor as i64;
            if stop && (below < 0 || below >= last as i64) {
                fraction = 0.0;
            }
            let place = |at: i64| usize::try_from(at).unwrap_or(0).min(last);
            let weight = |x: f32| (x * ONE).round_ties_even() as i32;
            (
                place(below),
                place(below + 1),
                weight(1.0 - fraction),
                weight(fraction),
            )
        });
        Self {
            taps: taps.collect(),
        }
    }
}

/// Writes the image, scaled to `columns` and `rows`, into the first columns of `out` `[C * rows, T]`, in [0, 255].
pub(super) fn scale(
    image: &ImageView<'_>,
    channels: ImageChannels,
    rows: usize,
    columns: usize,
    out: &mut Array2<f32>,
) {
    let (width, height) = (image.width(), image.height());
    let (across, down) = (
        Axis::new(width, columns, true),
        Axis::new(height, rows, false),
    );
    let count = channels.count();
    let mut pixels = vec![Vec::with_capacity(width); count];
    // The two source rows last scaled across: their indices, and sums channel after channel.
    let mut held = [(usize::MAX, Vec::new()), (usize::MAX, Vec::new())];
    for (y, &(above, below, upper, lower)) in down.taps.iter().enumerate() {
        for row in [above, below] {
            if held.iter().any(|(index, _)| *index == row) {
                continue;
            }
            // The row that is not needed for this output gives way.
            let spare = usize::from(held[0].0 == above || held[0].0 == below);
            let (index, sums) = &mut held[spare];
            *index = row;
            sums.clear();
            image.row(row, 0..width, channels, &mut pixels);
            for plane in &pixels {
                let scaled = across.taps.iter().map(|&(left, right, first, second)| {
                    let at = |x: usize| (plane[x] + 0.5) as i32;
                    at(left) * first + at(right) * second
                });
                sums.extend(scaled);
            }
        }
        let find = |row: usize| held.iter().find(|(index, _)| *index == row);
        let (Some((_, above)), Some((_, below))) = (find(above), find(below)) else {
            continue; // Both were just made.
        };
        for channel in 0..count {
            let part = channel * columns..(channel + 1) * columns;
            let sums = above[part.clone()].iter().zip(&below[part]);
            let mut row = out.row_mut(channel * rows + y);
            for (target, (above, below)) in row.iter_mut().zip(sums) {
                let sum = ((upper * (above >> 4)) >> 16) + ((lower * (below >> 4)) >> 16);
                *target = ((sum + 2) >> 2) as f32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::PixelFormat;

    /// What OpenCV 5.0 gives for `cv2.resize` of the image with pixel `(37 y^2 + 101 x y + 13 x) mod 256`, made by
    /// `runtime/tests/golden/lines.py`.
    #[test]
    fn equals_opencv() {
        for (case, (width, height, columns, rows, expected)) in GOLDEN.iter().enumerate() {
            let data: Vec<u8> = (0..width * height)
                .map(|i| {
                    let (x, y) = (i % width, i / width);
                    ((37 * y * y + 101 * x * y + 13 * x) % 256) as u8
                })
                .collect();
            let image = ImageView::new(&data, *width, *height, *width, PixelFormat::Gray).unwrap();
            let mut out = Array2::zeros((*rows, columns + 3));
            scale(&image, ImageChannels::Gray, *rows, *columns, &mut out);
            let found: Vec<f32> = out
                .outer_iter()
                .flat_map(|row| row.iter().take(*columns).copied().collect::<Vec<_>>())
                .collect();
            assert_eq!(found, *expected, "case {case}");
            assert!(out.column(*columns).iter().all(|&x| x == 0.0));
        }
    }

    /// Width, height, columns, rows, and the scaled image.
    type Golden = (usize, usize, usize, usize, &'static [f32]);

    #[rustfmt::skip]
    const GOLDEN: &[Golden] = &[
        (7, 5, 11, 8, &[0.0, 6.0, 14.0, 22.0, 31.0, 39.0, 47.0, 55.0, 64.0, 72.0, 78.0, 16.0, 42.0, 68.0, 33.0, 39.0, 76.0, 112.0, 118.0, 83.0, 109.0, 135.0, 44.0, 91.0, 136.0, 50.0, 50.0, 117.0, 193.0, 200.0, 114.0, 158.0, 206.0, 113.0, 117.0, 114.0, 68.0, 51.0, 55.0, 172.0, 219.0, 173.0, 170.0, 174.0, 126.0, 121.0, 116.0, 109.0, 74.0, 17.0, 123.0, 181.0, 175.0, 169.0, 165.0, 81.0, 106.0, 140.0, 174.0, 121.0, 2.0, 47.0, 87.0, 121.0, 155.0, 179.0, 79.0, 132.0, 193.0, 176.0, 117.0, 29.0, 103.0, 138.0, 121.0, 104.0, 91.0, 80.0, 153.0, 232.0, 172.0, 111.0, 51.0, 153.0, 186.0, 126.0, 65.0, 22.0]),
        (23, 17, 9, 6, &[116.0, 151.0, 186.0, 117.0, 22.0, 161.0, 92.0, 127.0, 141.0, 185.0, 84.0, 68.0, 137.0, 101.0, 85.0, 69.0, 117.0, 101.0, 163.0, 132.0, 200.0, 152.0, 88.0, 114.0, 114.0, 123.0, 139.0, 107.0, 103.0, 100.0, 96.0, 92.0, 88.0, 101.0, 81.0, 110.0, 160.0, 127.0, 136.0, 117.0, 112.0, 143.0, 88.0, 204.0, 64.0, 122.0, 102.0, 84.0, 73.0, 62.0, 30.0, 46.0, 236.0, 216.0]),
        (1, 1, 4, 4, &[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
        (16, 8, 8, 4, &[50.0, 49.0, 112.0, 111.0, 110.0, 109.0, 172.0, 171.0, 117.0, 72.0, 155.0, 174.0, 65.0, 212.0, 103.0, 122.0, 160.0, 135.0, 174.0, 149.0, 188.0, 163.0, 202.0, 177.0, 115.0, 110.0, 105.0, 164.0, 159.0, 90.0, 149.0, 80.0]),
        (5, 31, 3, 4, &[111.0, 178.0, 85.0, 162.0, 73.0, 79.0, 108.0, 65.0, 127.0, 88.0, 154.0, 124.0]),
    ];
}
