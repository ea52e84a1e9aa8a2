//! The sections `[image]` and `[synth]` of a recipe: how crops become lines, and how words are rendered.

use super::{ensure, ensure_interval, ensure_within};
use crate::error::Result;
use acolyte::spec::{ImageChannels, LineSpec, Normalization};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The fields of [`LineSpec`] that a recipe may set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImageConfig {
    /// Rows of a line. Default 32.
    pub height: usize,
    /// Channels. Default gray: cameras give it for nothing, and letters hardly differ in color alone.
    pub channels: ImageChannels,
    /// Widths are rounded up to a multiple of this many columns. Default 16.
    pub multiple: usize,
    /// Least width in columns. Default 32.
    pub min_width: usize,
    /// Largest width in columns. Default 1024.
    pub max_width: usize,
    /// Added to each image's deviation before its pixels are divided by it. Default 0.02.
    pub epsilon: f32,
}

impl Default for ImageConfig {
    fn default() -> Self {
        let spec = LineSpec::default();
        Self {
            height: spec.height,
            channels: spec.channels,
            multiple: spec.multiple,
            min_width: spec.min_width,
            max_width: spec.max_width,
            epsilon: 0.02,
        }
    }
}

impl ImageConfig {
    /// As the spec has it.
    pub fn spec(&self) -> LineSpec {
        LineSpec {
            height: self.height,
            channels: self.channels,
            multiple: self.multiple,
            min_width: self.min_width,
            max_width: self.max_width,
            normalization: Normalization::Utterance {
                epsilon: self.epsilon,
            },
            ..LineSpec::default()
        }
    }

    pub(super) fn validate(&self) -> Result<()> {
        acolyte::features::LineReader::new(&self.spec())?;
        Ok(())
    }
}

/// Words rendered on the fly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SynthConfig {
    /// Rendered crops in an epoch; 0 renders none. Default 0.
    pub per_epoch: usize,
    /// Folders of TrueType and OpenType fonts, searched with their subfolders.
    pub fonts: Vec<PathBuf>,
    /// Fonts whose file names contain one of these are left out: symbols and ornaments that claim to be letters.
    pub exclude: Vec<String>,
    /// Text files that words are taken from (`.gz` is unpacked), relative to the data folder; a folder stands for
    /// the files in it.
    pub words: Vec<PathBuf>,
    /// Longest rendered text in characters. Default 24.
    pub longest: usize,
    /// Interval of the height of a crop in pixels, drawn on a logarithmic scale. Default 14 to 56.
    pub height: [f32; 2],
    /// How often each effect occurs.
    pub effects: EffectsConfig,
}

impl Default for SynthConfig {
    fn default() -> Self {
        Self {
            per_epoch: 0,
            fonts: Vec::new(),
            exclude: Vec::new(),
            words: Vec::new(),
            longest: 24,
            height: [14.0, 56.0],
            effects: EffectsConfig::default(),
        }
    }
}

/// Probabilities of effects, and the strength of some.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EffectsConfig {
    /// Letters along an arc or a wave. Default 0.2.
    pub curve: f32,
    /// Rotation. Default 0.5.
    pub rotate: f32,
    /// Largest rotation in degrees; most are far smaller. Default 25.
    pub degrees: f32,
    /// Perspective. Default 0.4.
    pub perspective: f32,
    /// Slant beyond the font's own. Default 0.2.
    pub slant: f32,
    /// Letters spread or crowded. Default 0.3.
    pub spacing: f32,
    /// An outline around the letters. Default 0.12.
    pub outline: f32,
    /// A shadow below them. Default 0.18.
    pub shadow: f32,
    /// A ground that is not of one color: gradients, textures, stripes, stains. Default 0.6.
    pub texture: f32,
    /// Little contrast between letters and ground. Default 0.2.
    pub low_contrast: f32,
    /// Uneven light. Default 0.4.
    pub light: f32,
    /// Focus blur. Default 0.5.
    pub blur: f32,
    /// Motion blur. Default 0.15.
    pub motion: f32,
    /// Sensor noise. Default 0.5.
    pub noise: f32,
    /// JPEG artefacts. Default 0.5.
    pub jpeg: f32,
    /// A crop that leaves room around the word or shows parts of its neighbors. Default 0.3.
    pub loose: f32,
}

impl Default for EffectsConfig {
    fn default() -> Self {
        Self {
            curve: 0.2,
            rotate: 0.5,
            degrees: 25.0,
            perspective: 0.4,
            slant: 0.2,
            spacing: 0.3,
            outline: 0.12,
            shadow: 0.18,
            texture: 0.6,
            low_contrast: 0.2,
            light: 0.4,
            blur: 0.5,
            motion: 0.15,
            noise: 0.5,
            jpeg: 0.5,
            loose: 0.3,
        }
    }
}

impl SynthConfig {
    pub(super) fn validate(&self) -> Result<()> {
        ensure(
            self.per_epoch == 0 || !self.fonts.is_empty(),
            "synth.fonts",
            "empty",
            "at least one folder of fonts",
        )?;
        ensure(
            self.per_epoch <= 1 << 30,
            "synth.per_epoch",
            self.per_epoch,
            "at most 2^30",
        )?;
        ensure(
            (1..=100).contains(&self.longest),
            "synth.longest",
            self.longest,
            "1 to 100",
        )?;
        ensure_interval("synth.height", self.height, 8.0..=256.0)?;
        let effects = &self.effects;
        ensure_within("synth.effects.degrees", effects.degrees, 0.0..=90.0)?;
        for (key, value) in [
            ("curve", effects.curve),
            ("rotate", effects.rotate),
            ("perspective", effects.perspective),
            ("slant", effects.slant),
            ("spacing", effects.spacing),
            ("outline", effects.outline),
            ("shadow", effects.shadow),
            ("texture", effects.texture),
            ("low_contrast", effects.low_contrast),
            ("light", effects.light),
            ("blur", effects.blur),
            ("motion", effects.motion),
            ("noise", effects.noise),
            ("jpeg", effects.jpeg),
            ("loose", effects.loose),
        ] {
            ensure_within(&format!("synth.effects.{key}"), value, 0.0..=1.0)?;
        }
        Ok(())
    }
}
