//! Matrices as pictures: a PNG with one pixel a number, inline as a data URI.

use crate::{Error, ErrorKind, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ndarray::ArrayView2;

/// Colors from the lowest to the highest value: dark blue over green to yellow, even in lightness, so that the order
/// shows in print and to the color-blind.
const COLORS: [[u8; 3]; 9] = [
    [68, 1, 84],
    [71, 44, 122],
    [59, 81, 139],
    [44, 113, 142],
    [33, 144, 141],
    [39, 173, 129],
    [92, 200, 99],
    [170, 220, 50],
    [253, 231, 37],
];

/// The color of `level` of 255.
fn color(level: u8) -> [u8; 3] {
    let place = f32::from(level) / 255.0 * (COLORS.len() - 1) as f32;
    let below = (place as usize).min(COLORS.len() - 2);
    let part = place - below as f32;
    let mix = |channel: usize| {
        let [a, b] = [COLORS[below], COLORS[below + 1]].map(|color| f32::from(color[channel]));
        (a + part * (b - a)).round() as u8
    };
    [mix(0), mix(1), mix(2)]
}

/// A matrix `[rows, columns]` as the data URI of a PNG, its first row at the bottom. Values from `low` to `high` go from
/// dark to bright; NaN is dark.
///
/// # Errors
/// [`ErrorKind::Io`] for a matrix that is empty or larger than PNG allows.
pub fn data_uri(values: ArrayView2<'_, f32>, low: f32, high: f32) -> Result<String> {
    let (rows, columns) = values.dim();
    let fail = |error: &dyn std::fmt::Display| {
        Error::new(
            ErrorKind::Io,
            format!("a picture of {rows} by {columns}: {error}"),
        )
    };
    let spread = (high - low).max(f32::MIN_POSITIVE);
    let pixels: Vec<u8> = values
        .outer_iter()
        .rev()
        .flat_map(|row| {
            row.iter()
                .map(|value| ((value - low) / spread * 255.0) as u8)
                .collect::<Vec<_>>()
        })
        .collect();
    let size = |n: usize| u32::try_from(n).map_err(|error| fail(&error));
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, size(columns)?, size(rows)?);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_palette((0..=255).flat_map(color).collect::<Vec<u8>>());
    let mut writer = encoder.write_header().map_err(|error| fail(&error))?;
    writer
        .write_image_data(&pixels)
        .map_err(|error| fail(&error))?;
    writer.finish().map_err(|error| fail(&error))?;
    Ok(format!("data:image/png;base64,{}", STANDARD.encode(file)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::arr2;

    #[test]
    fn a_picture_reads_back() {
        let values = arr2(&[[0.0, 0.5, 1.0], [-3.0, 9.0, f32::NAN]]);
        let uri = data_uri(values.view(), 0.0, 1.0).unwrap();
        let file = STANDARD
            .decode(uri.strip_prefix("data:image/png;base64,").unwrap())
            .unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(file))
            .read_info()
            .unwrap();
        assert_eq!((reader.info().width, reader.info().height), (3, 2));
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        // The first row is at the bottom; what lies outside the range is cut.
        assert_eq!(pixels[..6], [0, 255, 0, 0, 127, 255]);
        assert_eq!((color(0), color(255)), (COLORS[0], COLORS[8]));
        assert!(data_uri(ndarray::Array2::zeros((0, 3)).view(), 0.0, 1.0).is_err());
    }
}
