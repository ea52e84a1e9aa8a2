//! The sections `[data]`, `[text]` and `[features]` of a recipe.

use super::{ensure, ensure_within, recipe_error};
use crate::error::Result;
use acolyte::features::Fbank;
use acolyte::spec::{
    LogGuard, LogMelSpec, MelScale, Normalization, Spectrum, TokensSpec, Window, WordMark,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// One training manifest and how often an epoch sees its rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSet {
    /// The manifest, relative to the data folder.
    pub manifest: PathBuf,
    /// Times each row is seen in an epoch; 0.5 sees each row every second epoch. Default 1.
    #[serde(default = "one")]
    pub repeat: f32,
}

fn one() -> f32 {
    1.0
}

/// One manifest to judge the model on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DevSet {
    /// The set's name in reports; the first set decides which checkpoint is best.
    pub name: String,
    /// The manifest, relative to the data folder.
    pub manifest: PathBuf,
}

/// What happens to a manifest row that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum BadRows {
    /// The run does not start; the error names file and line.
    Refuse,
    /// The row is left out, counted and listed.
    Drop,
}

/// Where the data is and which rows are used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// Manifests to train on; at least one.
    pub train: Vec<TrainSet>,
    /// Folders or files of rendered pictures ([`crate::synth::shards`]) to train on beside the manifests, relative to
    /// the data folder: scene text alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shards: Vec<PathBuf>,
    /// Manifests to judge on; may be empty.
    pub dev: Vec<DevSet>,
    /// Longest training utterance in seconds; longer ones are left out and counted. Default 16.7.
    pub max_seconds: f32,
    /// Shortest training utterance in seconds; shorter ones are left out and counted. Default 0.1.
    pub min_seconds: f32,
    /// What to do with a row whose audio or text cannot be used. Default refuse.
    pub bad_rows: BadRows,
    /// Memory for decoded audio in MiB (115 MiB an hour at 16 kHz); what does not fit is decoded again each
    /// time it is needed. Default 4096.
    pub cache_mib: usize,
    /// Threads that prepare batches beside the training step. Default 1: measured to be enough on a CPU.
    pub workers: usize,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            train: Vec::new(),
            shards: Vec::new(),
            dev: Vec::new(),
            max_seconds: 16.7,
            min_seconds: 0.1,
            bad_rows: BadRows::Refuse,
            cache_mib: 4096,
            workers: 1,
        }
    }
}

impl DataConfig {
    pub(super) fn validate(&self, rendered: bool) -> Result<()> {
        ensure(
            rendered || !self.train.is_empty(),
            "data.train",
            "empty",
            "at least one { manifest = \"...\" }",
        )?;
        for (index, set) in self.train.iter().enumerate() {
            ensure_within(
                &format!("data.train[{index}].repeat"),
                set.repeat,
                0.0..=1000.0,
            )?;
        }
        ensure(
            rendered || self.train.iter().any(|set| set.repeat > 0.0),
            "data.train",
            "repeated 0 times throughout",
            "a set with repeat > 0",
        )?;
        let mut names = BTreeSet::new();
        for (index, set) in self.dev.iter().enumerate() {
            ensure(
                !set.name.is_empty() && names.insert(&set.name),
                &format!("data.dev[{index}].name"),
                format!("`{}`", set.name),
                "a name that no other dev set has",
            )?;
        }
        ensure_within("data.max_seconds", self.max_seconds, 0.02..=3600.0)?;
        ensure_within("data.min_seconds", self.min_seconds, 0.0..=self.max_seconds)?;
        ensure(
            (1..=256).contains(&self.workers),
            "data.workers",
            self.workers,
            "1 to 256",
        )
    }
}

/// How letter case is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Case {
    /// As written.
    Keep,
    /// Lower case.
    Lower,
    /// Upper case.
    Upper,
}

/// Transcripts and the vocabulary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TextConfig {
    /// The tokens without the blank, in id order from 1 (the blank is id 0). Empty: the characters of the
    /// training transcripts, sorted, which `check` shows.
    pub tokens: Vec<String>,
    /// Case of the transcripts before they are turned into tokens. Default lower.
    pub case: Case,
    /// The token between words; empty for a script without word boundaries. Default a space.
    pub separator: String,
}

impl Default for TextConfig {
    fn default() -> Self {
        Self {
            tokens: Vec::new(),
            case: Case::Lower,
            separator: " ".to_owned(),
        }
    }
}

/// The largest vocabulary a recipe may name, blank left out.
const MAX_TOKENS: usize = 65_536;

impl TextConfig {
    /// The vocabulary with the blank at id 0 and `tokens` after it; words are parted where the separator is one.
    pub fn tokens_spec(&self, tokens: &[String]) -> TokensSpec {
        TokensSpec {
            pieces: std::iter::once("<blank>".to_owned())
                .chain(tokens.iter().cloned())
                .collect(),
            blank: 0,
            // Transcripts of single words have no separator to derive.
            word_mark: if !tokens.contains(&self.separator) {
                WordMark::None
            } else {
                WordMark::Separator(self.separator.clone())
            },
        }
    }

    pub(super) fn validate(&self) -> Result<()> {
        ensure(
            self.tokens.len() <= MAX_TOKENS,
            "text.tokens",
            format!("{} tokens", self.tokens.len()),
            &format!("at most {MAX_TOKENS}"),
        )?;
        let mut seen = BTreeSet::new();
        for token in &self.tokens {
            if token.is_empty() || token == "<blank>" || !seen.insert(token) {
                return Err(recipe_error(format!(
                    "`text.tokens` holds {token:?}, which is empty, the blank, or there twice"
                )));
            }
        }
        ensure(
            self.tokens.is_empty()
                || self.separator.is_empty()
                || self.tokens.contains(&self.separator),
            "text.separator",
            format!("{:?}", self.separator),
            "one of text.tokens, or empty",
        )
    }
}

/// How features are normalized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum NormalizationKind {
    /// Mean and deviation of each mel band over the training set, stored in the spec: streams.
    Fixed,
    /// Over each utterance: does not stream.
    Utterance,
    /// None.
    None,
}

/// The fields of [`LogMelSpec`] that a recipe may set; each defaults to [`LogMelSpec::default`]'s.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FeaturesConfig {
    /// Samples per second; audio of any rate is resampled.
    pub sample_rate: u32,
    /// Factor on samples in [-1, 1].
    pub scale: f32,
    /// Whether each frame's mean is subtracted.
    pub remove_dc: bool,
    /// Pre-emphasis; 0 is none.
    pub pre_emphasis: f32,
    /// Window shape.
    pub window: Window,
    /// Window length in samples.
    pub window_length: usize,
    /// Samples between frames.
    pub hop_length: usize,
    /// FFT length in samples.
    pub fft_length: usize,
    /// What the filters weigh.
    pub spectrum: Spectrum,
    /// Mel scale.
    pub mel: MelScale,
    /// Number of filters: F.
    pub mels: usize,
    /// Lowest edge in Hz.
    pub low_hz: f32,
    /// Highest edge in Hz, at most half the rate.
    pub high_hz: f32,
    /// Guard of the logarithm.
    pub log: LogGuard,
    /// Normalization. Default fixed.
    pub normalization: NormalizationKind,
}

impl Default for FeaturesConfig {
    fn default() -> Self {
        let spec = LogMelSpec::default();
        Self {
            sample_rate: spec.sample_rate,
            scale: spec.scale,
            remove_dc: spec.remove_dc,
            pre_emphasis: spec.pre_emphasis,
            window: spec.window,
            window_length: spec.window_length,
            hop_length: spec.hop_length,
            fft_length: spec.fft_length,
            spectrum: spec.spectrum,
            mel: spec.mel,
            mels: spec.mels,
            low_hz: spec.low_hz,
            high_hz: spec.high_hz,
            log: spec.log,
            normalization: NormalizationKind::Fixed,
        }
    }
}

impl FeaturesConfig {
    /// The runtime's front-end with this normalization; statistics are measured with [`Normalization::None`].
    pub fn spec(&self, normalization: Normalization) -> LogMelSpec {
        LogMelSpec {
            sample_rate: self.sample_rate,
            scale: self.scale,
            remove_dc: self.remove_dc,
            pre_emphasis: self.pre_emphasis,
            window: self.window,
            window_length: self.window_length,
            hop_length: self.hop_length,
            fft_length: self.fft_length,
            spectrum: self.spectrum,
            mel: self.mel,
            mels: self.mels,
            low_hz: self.low_hz,
            high_hz: self.high_hz,
            log: self.log,
            normalization,
            ..LogMelSpec::default()
        }
    }

    pub(super) fn validate(&self) -> Result<()> {
        // The runtime's own check, so that a recipe is refused for exactly what a model would be.
        Fbank::new(&self.spec(Normalization::None))
            .map(|_| ())
            .map_err(|e| recipe_error(format!("[features] {e}")).with_source(e))
    }
}
