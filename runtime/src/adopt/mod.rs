//! Other people's CTC models: read, checked, and given a spec, so that everything here works with them.
//!
//! [`adopt`] takes an ONNX file as PP-OCR, NeMo, icefall, WeNet or wav2vec2 exports have it, or any other with a
//! [`Preset`] that says what its conventions do not, and gives the same bytes with a [`ModelSpec`](crate::spec::ModelSpec)
//! appended: from then on it is a model like any other. A [`Report`] says line by line what was found in the file, what
//! was given, what was assumed and what is missing; what cannot be sure is refused. The spec's `sha256` is that of the
//! original file.
//!
//! 1. `header`: what the file says, without running it ([`ModelHeader`]);
//! 2. `image`, `speech`, `state`, `tokens`: the draft of a spec from the convention, the metadata and the preset;
//! 3. `probe` (feature `onnx`): runs on noise, which measure the stride, what kind of numbers come out, and whether the
//!    vocabulary fits.

mod draft;
mod external;
mod image;
mod preset;
#[cfg(feature = "onnx")]
mod probe;
mod report;
mod speech;
mod state;
mod tokens;

pub use draft::draft;
pub use external::with_external_data;
pub use preset::{Convention, Preset};
pub use report::{Note, Report, Standing};

use crate::model::header::ModelHeader;
#[cfg(feature = "onnx")]
use crate::model::{ModelFile, OrtModel, OrtOptions, read_bytes};
use crate::{Error, ErrorKind};
#[cfg(feature = "onnx")]
use crate::{Library, Result};
#[cfg(feature = "onnx")]
use std::path::Path;

/// A model to adopt: everything but its bytes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Adoption {
    /// What is known about it beyond what the file says.
    pub preset: Preset,
    /// The text of its list of tokens: `tokens.txt` of sherpa, icefall, WeNet and NeMo (a piece and its id a line), a list
    /// of pieces in order, or the `vocab.json` of wav2vec2. None where the file has them itself.
    pub tokens: Option<String>,
    /// The name of the original file, for the spec.
    pub original: String,
}

impl Adoption {
    /// An adoption by a convention.
    pub fn of(convention: Convention) -> Self {
        Self::default().with_preset(Preset {
            convention: Some(convention),
            ..Preset::default()
        })
    }

    /// The same with another preset.
    #[must_use]
    pub fn with_preset(mut self, preset: Preset) -> Self {
        self.preset = preset;
        self
    }

    /// The same with the text of a list of tokens.
    #[must_use]
    pub fn with_tokens(mut self, text: impl Into<String>) -> Self {
        self.tokens = Some(text.into());
        self
    }

    /// The same with the name of the original file.
    #[must_use]
    pub fn with_original(mut self, name: impl Into<String>) -> Self {
        self.original = name.into();
        self
    }
}

/// The convention that an ONNX file's own words speak for, if they do.
pub fn guess(header: &ModelHeader) -> Option<Convention> {
    let kind = header.metadata("model_type").unwrap_or_default();
    let author = header.metadata("model_author").unwrap_or_default();
    let comment = header.metadata("comment").unwrap_or_default();
    if header.metadata("character").is_some() {
        return Some(Convention::Ppocr);
    }
    if kind.starts_with("wenet") || author == "wenet" {
        return Some(Convention::WenetCtc);
    }
    if kind.starts_with("EncDec") || header.input("audio_signal").is_some() {
        return Some(Convention::NemoCtc);
    }
    if header.input("input_values").is_some() {
        return Some(Convention::Wav2vec2Ctc);
    }
    let icefall = author == "k2-fsa" || kind.contains("zipformer") || kind.contains("conformer");
    let ctc = kind.contains("ctc") || comment.to_lowercase().contains("ctc");
    (icefall && ctc).then_some(Convention::IcefallCtc)
}

/// The model in `model` with a spec made for it: the same bytes and one field behind them. `report` has what was found,
/// given, assumed, missing and checked, up to the error if there is one.
///
/// # Errors
/// [`ErrorKind::Model`] for bytes that are no ONNX model or that ONNX Runtime refuses; [`ErrorKind::Unsupported`] for
/// weights in other files ([`with_external_data`] brings them in), inputs that are not float32 and fixed axes that leave
/// no way to run the graph; [`ErrorKind::Spec`] where something is missing, contradicts the graph, or cannot be sure;
/// [`ErrorKind::Inference`] where a run fails or gives NaN. Nothing is written anywhere.
#[cfg(feature = "onnx")]
pub fn adopt(
    library: &Library,
    model: &[u8],
    adoption: &Adoption,
    report: &mut Report,
) -> Result<Vec<u8>> {
    let header = ModelHeader::read(model)?;
    let spec = draft(&header, adoption, report)?;
    let stamped = spec.stamp(model)?;
    let measured = probe::run(library, &stamped, report)?;
    let mut spec = probe::settle(spec, &measured, report)?;
    draft::sum_up(report, &mut spec.about);
    let stamped = spec.stamp(model)?;
    let file = ModelFile::from_bytes(stamped.clone())?;
    report.found("sha256", &file.spec().sha256);
    Ok(stamped)
}

/// Opens the model at `path`: one with a spec as it is, any other adopted on the way. For those who take models from
/// anywhere, a trainer that learns from one among them.
///
/// # Errors
/// As [`adopt`] and [`OrtModel::from_bytes`]; they name the path.
#[cfg(feature = "onnx")]
pub fn open(
    library: &Library,
    path: impl AsRef<Path>,
    adoption: &Adoption,
    options: &OrtOptions,
) -> Result<(OrtModel, Report)> {
    let path = path.as_ref();
    let mut report = Report::default();
    let open = |report: &mut Report| {
        let bytes = read_bytes(path)?;
        let header = ModelHeader::read(&bytes)?;
        let bytes = match header.metadata(crate::spec::SPEC_KEY) {
            Some(_) => bytes,
            None => adopt(library, &bytes, adoption, report)?,
        };
        OrtModel::from_bytes(library, bytes, options)
    };
    let model = open(&mut report).map_err(|e| e.with_path(path))?;
    Ok((model, report))
}

/// An error of what the file and its preset leave open or contradict.
fn unsure(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Spec, message)
}
