//! The checks of a spec against itself. What it says about the graph is held against the graph in `fit`.

use super::{FrontEnd, GivenValue, InputLayout, ModelSpec, Role, SPEC_VERSION, StreamingSpec};
use crate::{Error, ErrorKind, Result};

/// Most feature frames of one chunk, of overlap and of delay.
const MAX_FRAMES: usize = 1 << 16;
/// Most numbers of one state tensor (256 MB).
const MAX_STATE: usize = 1 << 26;

/// Refuses with [`ErrorKind::Spec`] and the formatted message unless the condition holds.
macro_rules! demand {
    ($holds:expr, $($message:tt)+) => {
        if !$holds {
            return Err(crate::Error::new(crate::ErrorKind::Spec, format!("the spec: {}", format_args!($($message)+))));
        }
    };
}
pub(super) use demand;

impl ModelSpec {
    /// Checks the spec against itself: ids within the vocabulary, finite and positive where that is needed,
    /// lengths that agree.
    ///
    /// # Errors
    /// [`ErrorKind::SpecVersion`] for a newer version, [`ErrorKind::Spec`] for everything else.
    pub fn validate(&self) -> Result<()> {
        if self.version > SPEC_VERSION {
            return Err(Error::new(
                ErrorKind::SpecVersion,
                format!(
                    "the spec has version {}, this build reads up to {SPEC_VERSION}",
                    self.version
                ),
            ));
        }
        demand!(self.version > 0, "version 0 does not exist");
        let pieces = self.tokens.pieces.len();
        demand!(
            pieces >= 2,
            "{pieces} tokens: a blank and one more are needed"
        );
        demand!(
            (self.tokens.blank as usize) < pieces,
            "blank is token {} of {pieces}",
            self.tokens.blank
        );
        demand!(
            (1..=self.max_stride()).contains(&self.stride),
            "stride {} is not within 1 to {}",
            self.stride,
            self.max_stride()
        );
        demand!(
            !self.license.is_empty(),
            "license is empty: give an SPDX expression, or `unknown`"
        );
        if let Some(label) = &self.graph.label {
            demand!(
                self.role == Role::OracleTeacher,
                "graph.label is given, which only an oracle teacher has"
            );
            demand!(
                (1..=MAX_FRAMES).contains(&label.length),
                "graph.label.length {} is not within 1 to {MAX_FRAMES}",
                label.length
            );
        }
        let layouts: &[InputLayout] = match &self.front_end {
            FrontEnd::LogMel(mel) => {
                mel.validate()?;
                &[InputLayout::BF1T, InputLayout::BFT, InputLayout::BTF]
            }
            FrontEnd::Line(line) => {
                line.validate(self.stride)?;
                &[InputLayout::BCHT]
            }
            FrontEnd::Waveform(wave) => {
                wave.validate()?;
                &[InputLayout::BT]
            }
        };
        let image = matches!(self.front_end, FrontEnd::Line(_));
        demand!(
            self.front_end.task() == self.task && layouts.contains(&self.graph.input_layout),
            "task {:?}, the front-end and input_layout {:?} do not belong together: speech takes log-mel features \
             (\"B F 1 T\", \"B F T\", \"B T F\") or samples (\"B T\"), scene text takes lines (\"B C H T\")",
            self.task,
            self.graph.input_layout
        );
        for given in &self.graph.given {
            let sane = match given.value {
                GivenValue::Filled { cache, chunk } => {
                    chunk > 0 && cache <= MAX_FRAMES && chunk <= MAX_FRAMES
                }
                _ => true,
            };
            demand!(
                sane,
                "input {:?} is given {:?}: cache and chunk must lie within 1 to {MAX_FRAMES}",
                given.input,
                given.value
            );
        }
        if let Some(streaming) = &self.streaming {
            demand!(
                !image,
                "a model of images does not stream: set `streaming` aside"
            );
            demand!(
                self.front_end.normalization().streams(),
                "normalization over the whole utterance cannot stream: set `streaming` aside, or use fixed \
                 mean and deviation"
            );
            validate_streaming(streaming, self.stride)?;
        }
        Ok(())
    }

    /// The most feature frames of an output frame: 64, and a quarter of a second where frames are samples.
    fn max_stride(&self) -> usize {
        match &self.front_end {
            FrontEnd::Waveform(wave) => (wave.sample_rate as usize / 4).max(64),
            _ => 64,
        }
    }
}

fn validate_streaming(streaming: &StreamingSpec, stride: usize) -> Result<()> {
    let chunk = streaming.chunk_frames;
    demand!(
        (1..=MAX_FRAMES).contains(&chunk) && chunk.is_multiple_of(stride),
        "chunk_frames {chunk} is not a multiple of stride {stride} up to {MAX_FRAMES}"
    );
    demand!(
        streaming.overlap_frames <= MAX_FRAMES,
        "overlap_frames {} exceeds {MAX_FRAMES}",
        streaming.overlap_frames
    );
    demand!(
        streaming.delay_frames <= MAX_FRAMES,
        "delay_frames {} exceeds {MAX_FRAMES}",
        streaming.delay_frames
    );
    demand!(
        streaming.flush_value.is_finite(),
        "flush_value is not finite"
    );
    for (index, state) in streaming.state.iter().enumerate() {
        let size = state
            .shape
            .iter()
            .try_fold(1usize, |n, &dim| n.checked_mul(dim));
        demand!(
            size.is_some_and(|n| (1..=MAX_STATE).contains(&n)),
            "state {:?} of shape {:?} is empty or larger than {MAX_STATE} numbers",
            state.input,
            state.shape
        );
        demand!(
            state
                .batch_axis
                .is_none_or(|axis| axis <= state.shape.len()),
            "state {:?} has {} axes besides the batch axis, which cannot be axis {:?}",
            state.input,
            state.shape.len(),
            state.batch_axis
        );
        let twice = streaming.state[..index]
            .iter()
            .any(|other| other.input == state.input || other.output == state.output);
        demand!(!twice, "state {:?} is listed twice", state.input);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::{TINY, tiny_spec};
    use crate::spec::{LogGuard, LogMelSpec, Normalization};

    fn state(spec: &mut ModelSpec) -> &mut crate::spec::StateSpec {
        &mut spec.streaming.as_mut().unwrap().state[0]
    }

    #[test]
    fn each_contradiction_within_the_spec_is_named() {
        type Change = fn(&mut ModelSpec, &mut LogMelSpec);
        let cases: [(Change, &str); 16] = [
            (|s, _| s.version = 0, "version 0"),
            (|s, _| s.tokens.blank = 8, "blank is token 8 of 8"),
            (|s, _| s.tokens.pieces.truncate(1), "1 tokens"),
            (|s, _| s.stride = 0, "stride 0"),
            (|s, _| s.license.clear(), "license is empty"),
            (
                |s, _| s.streaming.as_mut().unwrap().chunk_frames = 15,
                "chunk_frames 15",
            ),
            (
                |s, _| s.streaming.as_mut().unwrap().flush_value = f32::NAN,
                "flush_value",
            ),
            (|s, _| state(s).shape[0] = usize::MAX, "empty or larger"),
            (
                |s, _| {
                    let twice = state(s).clone();
                    s.streaming.as_mut().unwrap().state.push(twice);
                },
                "listed twice",
            ),
            (|_, m| m.sample_rate = 0, "sample_rate is 0"),
            (|_, m| m.hop_length = 0, "hop_length is 0"),
            (|_, m| m.window_length = 513, "window_length is 513"),
            (|_, m| m.high_hz = 8001.0, "high_hz 8001"),
            (|_, m| m.scale = f32::INFINITY, "scale is inf"),
            (|_, m| m.log = LogGuard::Floor(0.0), "guard 0"),
            (
                |_, m| {
                    let (mean, deviation) = (vec![0.0; 8], vec![0.0; 8]);
                    m.normalization = Normalization::Fixed { mean, deviation };
                },
                "deviation 0 is 0",
            ),
        ];
        for (change, words) in cases {
            let mut spec = tiny_spec(TINY);
            let FrontEnd::LogMel(mut mel) = spec.front_end.clone() else {
                panic!("a speech model")
            };
            change(&mut spec, &mut mel);
            spec.front_end = FrontEnd::LogMel(mel);
            let error = spec.validate().expect_err(words);
            assert_eq!(error.kind(), ErrorKind::Spec);
            assert!(error.to_string().contains(words), "{error} lacks {words:?}");
        }
    }

    #[test]
    fn utterance_normalization_and_newer_versions_are_refused() {
        let mut spec = tiny_spec(TINY);
        let FrontEnd::LogMel(mel) = &mut spec.front_end else {
            panic!("a speech model")
        };
        mel.normalization = Normalization::Utterance { epsilon: 1e-5 };
        assert_eq!(spec.validate().unwrap_err().kind(), ErrorKind::Spec);
        let mut spec = tiny_spec(TINY);
        spec.version = SPEC_VERSION + 1;
        assert_eq!(spec.validate().unwrap_err().kind(), ErrorKind::SpecVersion);
    }
}
