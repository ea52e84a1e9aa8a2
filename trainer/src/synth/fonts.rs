//! Faces of a folder as outlines, in units of the em: x to the right from the pen, y up from the baseline.
//!
//! Everything a run needs of a font is taken out when it is loaded, so that drawing a letter reads no font file. Faces
//! that do not draw all letters and digits of the vocabulary are left out; a missing sign is no reason.

use crate::{Error, ErrorKind, Result};
use ab_glyph::{Font, FontRef, OutlineCurve};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The largest font file read.
const MAX_BYTES: u64 = 64 << 20;

/// A point in ems.
pub type Point = [f32; 2];

/// A piece of an outline.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Curve {
    /// From the first point to the second.
    Line([Point; 2]),
    /// A quadratic Bezier curve.
    Quad([Point; 3]),
    /// A cubic Bezier curve.
    Cubic([Point; 4]),
}

impl Curve {
    /// Its end and control points.
    pub fn points(&self) -> &[Point] {
        match self {
            Self::Line(points) => points,
            Self::Quad(points) => points,
            Self::Cubic(points) => points,
        }
    }
}

/// A letter.
#[derive(Debug, Clone, PartialEq)]
pub struct Glyph {
    /// Its outline; empty for a space.
    pub curves: Vec<Curve>,
    /// How far the pen moves.
    pub advance: f32,
}

/// A face: the glyphs of one font file.
#[derive(Debug, Clone)]
pub struct Face {
    /// The file.
    pub path: PathBuf,
    glyphs: BTreeMap<char, Glyph>,
}

impl Face {
    /// The glyph of a character.
    pub fn glyph(&self, character: char) -> Option<&Glyph> {
        self.glyphs.get(&character)
    }

    /// Whether it draws every character of a text.
    pub fn draws(&self, text: &str) -> bool {
        text.chars().all(|c| self.glyphs.contains_key(&c))
    }
}

/// The faces of some folders. Families (the folders that files lie in) are drawn with the square root of their number
/// of faces as weight, so that large families do not crowd out the others.
#[derive(Debug)]
pub struct FontSet {
    faces: Vec<Face>,
    /// First face of each family, and the weight of all families up to its end.
    families: Vec<(usize, f32)>,
}

impl FontSet {
    /// Loads the fonts in `folders` and below, but those whose file names contain a part of `exclude`.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] for a folder that cannot be read; [`ErrorKind::Data`] where no file is a font that draws all
    /// letters and digits among `characters`.
    pub fn load(folders: &[PathBuf], exclude: &[String], characters: &[char]) -> Result<Self> {
        let mut files = Vec::new();
        for folder in folders {
            collect(folder, &mut files)?;
        }
        files.retain(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            !exclude.iter().any(|part| name.contains(part.as_str()))
        });
        files.sort();
        files.dedup();
        let faces: Vec<Face> = (files.par_iter())
            .filter_map(|path| load_face(path, characters))
            .collect();
        if faces.is_empty() {
            let folders: Vec<_> = folders.iter().map(|f| f.display().to_string()).collect();
            return Err(Error::new(
                ErrorKind::Data,
                format!(
                    "no font: of {} files in {} none is a TrueType or OpenType font that draws {:?}",
                    count(files.len()),
                    folders.join(", "),
                    characters.iter().collect::<String>()
                ),
            ));
        }
        let mut families: Vec<(usize, f32)> = Vec::new();
        let mut start = 0;
        for family in faces.chunk_by(|a, b| a.path.parent() == b.path.parent()) {
            let before = families.last().map_or(0.0, |family| family.1);
            families.push((start, before + (family.len() as f32).sqrt()));
            start += family.len();
        }
        Ok(Self { faces, families })
    }

    /// The faces.
    pub fn faces(&self) -> &[Face] {
        &self.faces
    }

    /// Whether a face draws the character.
    pub fn any_draws(&self, character: char) -> bool {
        self.faces
            .iter()
            .any(|face| face.glyphs.contains_key(&character))
    }

    /// A face that draws the text, or one that draws most of it where chance finds none.
    pub fn draw(&self, text: &str, random: &mut ChaCha8Rng) -> usize {
        let total = self.families.last().map_or(1.0, |family| family.1);
        let mut face = 0;
        for _ in 0..50 {
            let at = random.random_range(0.0..total);
            let family = self.families.partition_point(|family| family.1 <= at);
            let family = family.min(self.families.len() - 1);
            let end = self
                .families
                .get(family + 1)
                .map_or(self.faces.len(), |next| next.0);
            face = random.random_range(self.families[family].0..end);
            if self.faces[face].draws(text) {
                return face;
            }
        }
        (self.faces.iter().position(|face| face.draws(text))).unwrap_or(face)
    }
}

fn count(n: usize) -> String {
    if n == 1 {
        "1 file".to_owned()
    } else {
        format!("{n} files")
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(|e| Error::io(folder, e))? {
        let entry = entry.map_err(|e| Error::io(folder, e))?;
        let kind = entry.file_type().map_err(|e| Error::io(folder, e))?;
        let path = entry.path();
        // Links are not followed: they could lead in circles.
        if kind.is_dir() {
            collect(&path, files)?;
        } else if kind.is_file() {
            let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
            if ["ttf", "otf"].iter().any(|known| extension == *known) {
                files.push(path);
            }
        }
    }
    Ok(())
}

/// The face in a file, if it is a font that draws what is needed.
fn load_face(path: &Path, characters: &[char]) -> Option<Face> {
    let size = std::fs::metadata(path).ok()?.len();
    let bytes = (size <= MAX_BYTES).then(|| std::fs::read(path).ok())??;
    let font = FontRef::try_from_slice(&bytes).ok()?;
    let em = font.units_per_em().filter(|em| *em > 0.0)?;
    let mut glyphs = BTreeMap::new();
    for &character in characters {
        match load_glyph(&font, character, em) {
            Some(glyph) => {
                glyphs.insert(character, glyph);
            }
            None if character.is_alphanumeric() => return None,
            None => {}
        }
    }
    let drawn = glyphs.values().any(|glyph| !glyph.curves.is_empty());
    drawn.then(|| Face {
        path: path.to_owned(),
        glyphs,
    })
}

fn load_glyph(font: &FontRef<'_>, character: char, em: f32) -> Option<Glyph> {
    let id = font.glyph_id(character);
    if id.0 == 0 {
        return None;
    }
    let advance = font.h_advance_unscaled(id) / em;
    if !(0.0..=4.0).contains(&advance) {
        return None;
    }
    let point = |p: ab_glyph::Point| [p.x / em, p.y / em];
    let curves: Vec<Curve> = match font.outline(id) {
        None => Vec::new(),
        Some(outline) => (outline.curves.into_iter())
            .map(|curve| match curve {
                OutlineCurve::Line(a, b) => Curve::Line([a, b].map(point)),
                OutlineCurve::Quad(a, b, c) => Curve::Quad([a, b, c].map(point)),
                OutlineCurve::Cubic(a, b, c, d) => Curve::Cubic([a, b, c, d].map(point)),
            })
            .collect(),
    };
    let sane = |p: &Point| p.iter().all(|c| c.abs() <= 4.0);
    let whole = curves.iter().all(|curve| curve.points().iter().all(sane));
    // A letter without an outline is one that the font does not have.
    let there = !curves.is_empty() || character.is_whitespace();
    (whole && there).then_some(Glyph { curves, advance })
}
