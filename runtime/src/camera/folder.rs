//! The images of a folder as frames, in the order of their names.

use super::{Frame, FrameSource};
use crate::{Error, ErrorKind, Image, Result};
use std::path::{Path, PathBuf};

/// Most images of a folder.
const MOST: usize = 1 << 20;

/// Ends of the names that are taken for images.
const ENDINGS: [&str; 4] = ["png", "jpg", "jpeg", "webp"];

/// The images of a folder.
#[derive(Debug)]
pub struct FolderFrames {
    files: std::vec::IntoIter<PathBuf>,
}

impl FolderFrames {
    /// The PNG, JPEG and WebP files that the folder holds now, by name; subfolders are left alone.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when the folder cannot be read, [`ErrorKind::InvalidArgument`] when it holds no image,
    /// [`ErrorKind::Limit`] above a million.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let failed = |e| Error::io(folder, e);
        let refused = |kind, message: String| Err(Error::new(kind, message).with_path(folder));
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let ending = path.extension().and_then(|e| e.to_str());
            let image =
                ending.is_some_and(|e| ENDINGS.iter().any(|known| e.eq_ignore_ascii_case(known)));
            if image && path.is_file() {
                files.push(path);
            }
            if files.len() > MOST {
                return refused(ErrorKind::Limit, format!("more than {MOST} images"));
            }
        }
        if files.is_empty() {
            let message = format!(
                "no image in this folder: expected files *.{}",
                ENDINGS.join(", *.")
            );
            return refused(ErrorKind::InvalidArgument, message);
        }
        files.sort();
        Ok(Self {
            files: files.into_iter(),
        })
    }

    /// Images still to come.
    pub fn left(&self) -> usize {
        self.files.len()
    }
}

impl FrameSource for FolderFrames {
    fn next_frame(&mut self) -> Result<Option<Frame>> {
        let Some(path) = self.files.next() else {
            return Ok(None);
        };
        match Image::open(&path) {
            Ok(image) => Ok(Some(image.into())),
            // One file that cannot be read is no reason to leave out the others.
            Err(error) if error.kind() == ErrorKind::Io => {
                Err(Error::new(ErrorKind::Malformed, error.to_string()).with_source(error))
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_come_by_name_and_bad_ones_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (name, width) in [("b.PNG", 2), ("a.png", 1), ("d.png", 4)] {
            let image = Image::from_rgb(width, 1, vec![9; 3 * width]).unwrap();
            std::fs::write(at(name), image.to_png().unwrap()).unwrap();
        }
        std::fs::write(at("c.jpg"), "no image").unwrap();
        std::fs::write(at("notes.txt"), "not read").unwrap();
        let mut source = FolderFrames::open(folder.path()).unwrap();
        assert_eq!(source.left(), 4);
        let mut widths = Vec::new();
        loop {
            match source.next_frame() {
                Ok(Some(frame)) => widths.push(frame.width()),
                Ok(None) => break,
                Err(error) => assert_eq!(error.path(), Some(&*at("c.jpg"))),
            }
        }
        assert_eq!(widths, [1, 2, 4]);
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(
            FolderFrames::open(empty.path()).unwrap_err().kind(),
            ErrorKind::InvalidArgument
        );
        assert_eq!(
            FolderFrames::open(at("nowhere")).unwrap_err().kind(),
            ErrorKind::Io
        );
    }
}
