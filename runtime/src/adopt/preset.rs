//! What is known about a model beyond what its file says: a convention, or single facts, as a JSON file has them.

use crate::spec::{
    FrontEnd, GivenInput, InputLayout, OutputLayout, OutputValues, StreamingSpec, WordMark,
};
use crate::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Whose export a model is: names of tensors, order of axes, tokens, front-end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Convention {
    /// Recognizers of PaddleOCR and RapidOCR: `[B, 3, 48, T]` in BGR, the characters in the metadata.
    Ppocr,
    /// NeMo's CTC models, whole or cache-aware: `audio_signal` `[B, F, T]`, blank last.
    NemoCtc,
    /// icefall's CTC models, whole or streaming Zipformer: `x` `[B, T, F]`, `<blk>`.
    IcefallCtc,
    /// WeNet's CTC models as sherpa exports them, whole or streaming: `x` `[B, T, F]`, `<blank>`.
    WenetCtc,
    /// wav2vec2 and its kin as `transformers` and `optimum` export them: `input_values` `[B, T]`.
    Wav2vec2Ctc,
}

impl Convention {
    /// Every convention.
    pub const ALL: [Self; 5] = [
        Self::Ppocr,
        Self::NemoCtc,
        Self::IcefallCtc,
        Self::WenetCtc,
        Self::Wav2vec2Ctc,
    ];

    /// Its name, as the command line has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ppocr => "ppocr",
            Self::NemoCtc => "nemo-ctc",
            Self::IcefallCtc => "icefall-ctc",
            Self::WenetCtc => "wenet-ctc",
            Self::Wav2vec2Ctc => "wav2vec2-ctc",
        }
    }
}

impl fmt::Display for Convention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Convention {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|c| c.name() == name);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::new(
                ErrorKind::InvalidArgument,
                format!("{name:?} is no convention; there are: {names}"),
            )
        })
    }
}

/// Facts about a model; what is left out comes from the file or the convention. As JSON, a preset file.
///
/// Without a convention, `front_end`, the tokens and what the graph leaves open must be there.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Preset {
    /// Whose export it is.
    pub convention: Option<Convention>,
    /// The model's name; the file's by default.
    pub name: Option<String>,
    /// SPDX expression; `unknown` by default.
    pub license: Option<String>,
    /// Raw input to features.
    pub front_end: Option<FrontEnd>,
    /// The least width of a line in columns, padding included, instead of the front-end's.
    pub min_width: Option<usize>,
    /// Name of the features input.
    pub input: Option<String>,
    /// Its axes.
    pub input_layout: Option<InputLayout>,
    /// Name of the input with the number of frames.
    pub input_length: Option<String>,
    /// Inputs that are always given the same.
    pub given: Vec<GivenInput>,
    /// Name of the output.
    pub output: Option<String>,
    /// Its axes.
    pub output_layout: Option<OutputLayout>,
    /// What its numbers are.
    pub output_values: Option<OutputValues>,
    /// The blank's id in the list of tokens.
    pub blank: Option<u32>,
    /// How words are told apart.
    pub word_mark: Option<WordMark>,
    /// Feature frames per output frame.
    pub stride: Option<usize>,
    /// How it streams.
    pub streaming: Option<StreamingSpec>,
    /// Output frames of a chunk of a streaming WeNet model, which its file does not say.
    pub chunk: Option<usize>,
    /// Chunks that such a model remembers.
    pub remembered: Option<usize>,
}

impl Preset {
    /// A preset from the JSON text of a preset file.
    ///
    /// # Errors
    /// [`ErrorKind::Spec`] where it does not parse or has a field that does not exist.
    pub fn from_json(text: &str) -> Result<Self> {
        serde_json::from_str(text)
            .map_err(|e| Error::new(ErrorKind::Spec, format!("the preset: {e}")).with_source(e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::LogMelSpec;

    #[test]
    fn conventions_have_the_names_of_the_command_line() {
        for convention in Convention::ALL {
            assert_eq!(convention.name().parse::<Convention>().unwrap(), convention);
            let json = serde_json::to_string(&convention).unwrap();
            assert_eq!(json, format!("\"{}\"", convention.name()));
        }
        let error = "paddle".parse::<Convention>().unwrap_err();
        assert!(error.to_string().contains("ppocr, nemo-ctc"), "{error}");
    }

    #[test]
    fn a_preset_is_json_and_refuses_what_it_does_not_know() {
        let preset = Preset {
            front_end: Some(FrontEnd::LogMel(LogMelSpec::whisper())),
            stride: Some(2),
            ..Preset::default()
        };
        let text = serde_json::to_string(&preset).unwrap();
        assert_eq!(Preset::from_json(&text).unwrap(), preset);
        let short = r#"{"convention": "wenet-ctc", "chunk": 8, "word_mark": {"kind": "prefix", "mark": "_"}}"#;
        assert_eq!(Preset::from_json(short).unwrap().chunk, Some(8));
        let error = Preset::from_json(r#"{"strides": 4}"#).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Spec);
        assert!(error.to_string().contains("strides"), "{error}");
    }
}
