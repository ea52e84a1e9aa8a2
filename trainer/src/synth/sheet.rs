//! A contact sheet: many pictures in one, each in a cell of its own, to be looked at.

use crate::Result;
use acolyte::image::Image;

/// Width and height of a cell in pixels.
const CELL: [usize; 2] = [192, 56];

/// Pixels between cells.
const GAP: usize = 4;

/// The pictures in rows of `columns`, scaled down where they do not fit their cell.
///
/// # Errors
/// [`crate::ErrorKind::Runtime`] where the sheet would be larger than an image can be.
pub fn sheet(pictures: &[Image], columns: usize) -> Result<Image> {
    let columns = columns.max(1);
    let rows = pictures.len().div_ceil(columns).max(1);
    let [width, height] = [columns * (CELL[0] + GAP), rows * (CELL[1] + GAP)];
    let mut pixels = vec![96; 3 * width * height];
    for (index, picture) in pictures.iter().enumerate() {
        let (left, top) = (
            index % columns * (CELL[0] + GAP),
            index / columns * (CELL[1] + GAP),
        );
        let (w, h) = (picture.width(), picture.height());
        let scale = (CELL[0] as f32 / w as f32)
            .min(CELL[1] as f32 / h as f32)
            .min(2.0);
        let (out_w, out_h) = ((w as f32 * scale) as usize, (h as f32 * scale) as usize);
        for y in 0..out_h {
            for x in 0..out_w {
                let from_x = ((x as f32 / scale) as usize).min(w - 1);
                let from_y = ((y as f32 / scale) as usize).min(h - 1);
                let from = 3 * (from_y * w + from_x);
                let to = 3 * ((top + y) * width + left + x);
                pixels[to..to + 3].copy_from_slice(&picture.rgb()[from..from + 3]);
            }
        }
    }
    Ok(Image::from_rgb(width, height, pixels)?)
}
