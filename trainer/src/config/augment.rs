//! The section `[augment]` of a recipe: which random changes training data undergoes.
//!
//! Every part is absent by default, so that a recipe shows all that is done to its data. The methods and their
//! sources are described in [`crate::data::augment`].

use super::{ensure, ensure_interval, ensure_within};
use crate::error::Result;
use serde::{Deserialize, Serialize};

/// Random changes of the training data; nothing unless a part is given.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AugmentConfig {
    /// Interval of the speed factor; 1.1 is faster and higher, as a tape is. Absent: 1.
    pub speed: Option<[f32; 2]>,
    /// Silence before and after.
    pub shift: Option<ShiftConfig>,
    /// Reverberation.
    pub reverb: Option<ReverbConfig>,
    /// Added synthetic noise.
    pub noise: Option<NoiseConfig>,
    /// Added voices of other training utterances.
    pub babble: Option<BabbleConfig>,
    /// Interval of the gain in dB. Absent: 0.
    pub gain_db: Option<[f32; 2]>,
    /// Masks on the features.
    pub spec_augment: Option<SpecAugmentConfig>,
}

/// Digital silence put before and after an utterance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShiftConfig {
    /// Share of the utterances that get it. Default 1.
    pub probability: f32,
    /// Longest silence before the utterance in seconds. Default 0.2.
    pub before: f32,
    /// Longest silence after it in seconds. Default 0.2.
    pub after: f32,
}

impl Default for ShiftConfig {
    fn default() -> Self {
        Self {
            probability: 1.0,
            before: 0.2,
            after: 0.2,
        }
    }
}

/// Convolution with a synthetic room.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReverbConfig {
    /// Share of the utterances that get it. Default 0.3.
    pub probability: f32,
    /// Interval of the reverberation time (60 dB) in seconds. Default 0.1 to 0.6.
    pub decay_seconds: [f32; 2],
    /// Interval of the direct-to-reverberant energy ratio in dB. Default 0 to 15.
    pub direct_db: [f32; 2],
}

impl Default for ReverbConfig {
    fn default() -> Self {
        Self {
            probability: 0.3,
            decay_seconds: [0.1, 0.6],
            direct_db: [0.0, 15.0],
        }
    }
}

/// White, pink or brown noise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NoiseConfig {
    /// Share of the utterances that get it. Default 0.5.
    pub probability: f32,
    /// Interval of the signal-to-noise ratio in dB. Default 5 to 30.
    pub snr_db: [f32; 2],
}

impl Default for NoiseConfig {
    fn default() -> Self {
        Self {
            probability: 0.5,
            snr_db: [5.0, 30.0],
        }
    }
}

/// Other training utterances in the background.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BabbleConfig {
    /// Share of the utterances that get it. Default 0.1.
    pub probability: f32,
    /// Interval of the signal-to-babble ratio in dB. Default 10 to 25.
    pub snr_db: [f32; 2],
    /// Fewest and most voices at once. Default 2 to 5.
    pub voices: [usize; 2],
}

impl Default for BabbleConfig {
    fn default() -> Self {
        Self {
            probability: 0.1,
            snr_db: [10.0, 25.0],
            voices: [2, 5],
        }
    }
}

/// Time and frequency masks on the features.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpecAugmentConfig {
    /// Time masks in ten seconds of audio, rounded up for shorter and longer ones. Default 4.
    pub time_masks: usize,
    /// Widest time mask in frames. Default 25.
    pub time_width: usize,
    /// Largest share of an utterance that one time mask covers. Default 0.05.
    pub time_share: f32,
    /// Frequency masks. Default 2.
    pub frequency_masks: usize,
    /// Widest frequency mask in mel bands. Default 12.
    pub frequency_width: usize,
}

impl Default for SpecAugmentConfig {
    fn default() -> Self {
        Self {
            time_masks: 4,
            time_width: 25,
            time_share: 0.05,
            frequency_masks: 2,
            frequency_width: 12,
        }
    }
}

impl AugmentConfig {
    /// Whether training data is used as it is.
    pub fn is_off(&self) -> bool {
        *self == Self::default()
    }

    /// The interval of speed factors, `[1, 1]` without speed perturbation.
    pub fn speed_interval(&self) -> [f32; 2] {
        self.speed.unwrap_or([1.0, 1.0])
    }

    pub(super) fn validate(&self) -> Result<()> {
        if let Some(speed) = self.speed {
            ensure_interval("augment.speed", speed, 0.5..=2.0)?;
        }
        if let Some(shift) = &self.shift {
            ensure_within("augment.shift.probability", shift.probability, 0.0..=1.0)?;
            ensure_within("augment.shift.before", shift.before, 0.0..=10.0)?;
            ensure_within("augment.shift.after", shift.after, 0.0..=10.0)?;
        }
        if let Some(reverb) = &self.reverb {
            ensure_within("augment.reverb.probability", reverb.probability, 0.0..=1.0)?;
            ensure_interval(
                "augment.reverb.decay_seconds",
                reverb.decay_seconds,
                0.02..=2.0,
            )?;
            ensure_interval("augment.reverb.direct_db", reverb.direct_db, -30.0..=60.0)?;
        }
        if let Some(noise) = &self.noise {
            ensure_within("augment.noise.probability", noise.probability, 0.0..=1.0)?;
            ensure_interval("augment.noise.snr_db", noise.snr_db, -30.0..=100.0)?;
        }
        if let Some(babble) = &self.babble {
            ensure_within("augment.babble.probability", babble.probability, 0.0..=1.0)?;
            ensure_interval("augment.babble.snr_db", babble.snr_db, -30.0..=100.0)?;
            let [fewest, most] = babble.voices;
            ensure(
                1 <= fewest && fewest <= most && most <= 32,
                "augment.babble.voices",
                format!("[{fewest}, {most}]"),
                "[fewest, most] within 1 to 32",
            )?;
        }
        if let Some(gain) = self.gain_db {
            ensure_interval("augment.gain_db", gain, -60.0..=60.0)?;
        }
        if let Some(spec) = &self.spec_augment {
            ensure(
                spec.time_masks <= 1000,
                "augment.spec_augment.time_masks",
                spec.time_masks,
                "at most 1000",
            )?;
            ensure(
                spec.frequency_masks <= 100,
                "augment.spec_augment.frequency_masks",
                spec.frequency_masks,
                "at most 100",
            )?;
            ensure_within(
                "augment.spec_augment.time_share",
                spec.time_share,
                0.0..=1.0,
            )?;
        }
        Ok(())
    }
}
