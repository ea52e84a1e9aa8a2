//! Rendered pictures in files, for machines whose processor could not render as fast as their GPU trains.
//!
//! A shard is one safetensors file: `pixels` U8 `[N]`, RGB picture after picture; `sizes` I32 `[K, 2]`, height and width
//! of each; `text` U8, the texts in UTF-8 one after another; `ends` I32 `[K]`, where each ends.

use super::{Key, Renderer};
use crate::train::checkpoint::write_atomically;
use crate::{Error, ErrorKind, Result};
use acolyte::image::Image;
use rayon::prelude::*;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use std::path::Path;

/// The largest shard read, in bytes.
const MAX_BYTES: u64 = 2 << 30;

/// Renders `count` pictures from `first` on into `folder`, `per_shard` a file; the number of files.
///
/// # Errors
/// [`ErrorKind::Io`] where a file cannot be written, and what rendering reports.
pub fn write(
    renderer: &Renderer,
    first: Key,
    count: usize,
    per_shard: usize,
    folder: &Path,
) -> Result<usize> {
    std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
    let per_shard = per_shard.max(1);
    let mut written = 0;
    for start in (0..count).step_by(per_shard) {
        let end = (start + per_shard).min(count);
        let pictures: Vec<(Image, String)> = (start..end)
            .into_par_iter()
            .map(|item| {
                let key = Key {
                    item: first.item + item as u64,
                    ..first
                };
                let (sketch, _) = renderer.sketch(key)?;
                Ok((renderer.paint(&sketch, key)?, sketch.text))
            })
            .collect::<Result<_>>()?;
        let path = folder.join(format!("shard-{written:05}.safetensors"));
        write_atomically(&path, &encode(&pictures)?)?;
        written += 1;
    }
    Ok(written)
}

fn encode(pictures: &[(Image, String)]) -> Result<Vec<u8>> {
    let mut pixels = Vec::new();
    let (mut sizes, mut text, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    for (picture, label) in pictures {
        pixels.extend_from_slice(picture.rgb());
        for side in [picture.height(), picture.width()] {
            sizes.extend((side as i32).to_le_bytes());
        }
        text.extend_from_slice(label.as_bytes());
        ends.extend((text.len() as i32).to_le_bytes());
    }
    let count = pictures.len();
    let fail = |e: safetensors::SafeTensorError| {
        Error::new(ErrorKind::Data, format!("a shard: {e}")).with_source(e)
    };
    let view = |dtype, shape, data| TensorView::new(dtype, shape, data).map_err(fail);
    let views = [
        ("pixels", view(Dtype::U8, vec![pixels.len()], &pixels)?),
        ("sizes", view(Dtype::I32, vec![count, 2], &sizes)?),
        ("text", view(Dtype::U8, vec![text.len()], &text)?),
        ("ends", view(Dtype::I32, vec![count], &ends)?),
    ];
    safetensors::serialize(views, None).map_err(fail)
}

/// Reads the pictures and texts of a shard.
///
/// # Errors
/// [`ErrorKind::Io`] for a file that cannot be read, [`ErrorKind::Data`] for one that is no shard or contradicts itself.
pub fn read(path: &Path) -> Result<Vec<(Image, String)>> {
    let refuse = |what: &str| {
        Error::new(
            ErrorKind::Data,
            format!("{what}: this is no whole shard, render it again"),
        )
        .with_path(path)
    };
    let size = std::fs::metadata(path)
        .map_err(|e| Error::io(path, e))?
        .len();
    if size > MAX_BYTES {
        return Err(refuse(&format!(
            "{size} bytes, at most {MAX_BYTES} are read"
        )));
    }
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| refuse(&e.to_string()))?;
    let tensor = |name: &str, dtype: Dtype| match tensors.tensor(name) {
        Ok(tensor) if tensor.dtype() == dtype => Ok(tensor.data().to_vec()),
        _ => Err(refuse(&format!("no {name} of type {dtype:?}"))),
    };
    let numbers = |name: &str| -> Result<Vec<usize>> {
        let data = tensor(name, Dtype::I32)?;
        let read = |b: &[u8; 4]| usize::try_from(i32::from_le_bytes(*b));
        let numbers = data
            .as_chunks::<4>()
            .0
            .iter()
            .map(read)
            .collect::<Result<_, _>>();
        numbers.map_err(|_| refuse(&format!("{name} holds a negative number")))
    };
    let (sizes, ends) = (numbers("sizes")?, numbers("ends")?);
    let (pixels, text) = (tensor("pixels", Dtype::U8)?, tensor("text", Dtype::U8)?);
    if sizes.len() != 2 * ends.len() {
        return Err(refuse("sizes and ends of different lengths"));
    }
    let (mut pixels, mut from) = (&pixels[..], 0);
    let mut pictures = Vec::with_capacity(ends.len());
    for (&[height, width], &end) in sizes.as_chunks::<2>().0.iter().zip(&ends) {
        let bytes = height.saturating_mul(width).saturating_mul(3);
        let (own, rest) =
            (pixels.split_at_checked(bytes)).ok_or_else(|| refuse("too few pixels"))?;
        let label = text
            .get(from..end)
            .and_then(|label| std::str::from_utf8(label).ok());
        let label = label.ok_or_else(|| refuse("text that does not fit ends"))?;
        let image =
            Image::from_rgb(width, height, own.to_vec()).map_err(|e| refuse(&e.to_string()))?;
        pictures.push((image, label.to_owned()));
        (pixels, from) = (rest, end);
    }
    Ok(pictures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_read_back_and_damage_is_refused() {
        let picture = |w: usize, h: usize| Image::from_rgb(w, h, vec![7; 3 * w * h]).unwrap();
        let pictures = vec![
            (picture(5, 3), "word".to_owned()),
            (picture(2, 9), "é!".to_owned()),
        ];
        let bytes = encode(&pictures).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.safetensors");
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(read(&path).unwrap(), pictures);
        for cut in [0, 7, bytes.len() / 2, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let error = read(&path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Data);
            assert!(error.to_string().contains("s.safetensors"));
        }
    }
}
