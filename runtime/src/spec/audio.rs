//! The front-ends of audio: log-mel energies, and the samples themselves.
//!
//! Every constant in which toolkits differ is a field, so that features of Kaldi (icefall, WeNet), NeMo and Whisper
//! are descriptions here and no code of their own. A frame is W = `window_length` samples, n samples are there.

use super::Normalization;
use serde::{Deserialize, Serialize};

/// A log-mel filterbank, complete enough to name the conventions of the usual toolkits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogMelSpec {
    /// Samples per second the model was trained on.
    pub sample_rate: u32,
    /// Factor on samples in [-1, 1] before anything else (Kaldi counts in 16-bit units: 32768).
    pub scale: f32,
    /// Whether each frame's mean is subtracted before windowing (Kaldi does).
    pub remove_dc: bool,
    /// Pre-emphasis `x[i] - a x[i-1]`; 0 is none.
    pub pre_emphasis: f32,
    /// What pre-emphasis runs over.
    #[serde(default, skip_serializing_if = "EmphasisOver::is_frame")]
    pub emphasis_over: EmphasisOver,
    /// The window's shape.
    pub window: Window,
    /// Window length in samples.
    pub window_length: usize,
    /// Samples from one frame to the next.
    pub hop_length: usize,
    /// Where frames lie, and what stands beyond the ends of the audio.
    #[serde(default, skip_serializing_if = "Framing::is_whole")]
    pub framing: Framing,
    /// FFT length in samples, at least the window length; the frame is padded with zeros on the right.
    pub fft_length: usize,
    /// Whether filters weigh magnitude or power.
    pub spectrum: Spectrum,
    /// The mel scale and its normalization.
    pub mel: MelScale,
    /// Number of filters: F.
    pub mels: usize,
    /// Lower edge of the lowest filter in Hz.
    pub low_hz: f32,
    /// Upper edge of the highest filter in Hz.
    pub high_hz: f32,
    /// How the logarithm is guarded against zero.
    pub log: LogGuard,
    /// Mean and variance normalization.
    pub normalization: Normalization,
}

/// A window function of N points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Window {
    /// `0.5 - 0.5 cos(2 pi n / (N - 1))`.
    Hann,
    /// `0.5 - 0.5 cos(2 pi n / N)`, as `torch.hann_window` and librosa have it.
    HannPeriodic,
    /// `0.54 - 0.46 cos(2 pi n / (N - 1))`.
    Hamming,
    /// Hann to the power 0.85 (Kaldi).
    Povey,
}

/// What the mel filters weigh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Spectrum {
    /// `|X|^2`.
    Power,
    /// `|X|`.
    Magnitude,
}

/// A mel scale and how its triangles are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum MelScale {
    /// `2595 log10(1 + f/700)`, triangles linear in Hz, height 1.
    Htk,
    /// `1127 ln(1 + f/700)`, triangles linear in mel, height 1, as Kaldi draws them.
    Kaldi,
    /// Linear to 1 kHz, logarithmic above, triangles linear in Hz with area 1 (librosa, NeMo, Whisper).
    Slaney,
}

/// A guarded logarithm.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "value")]
#[non_exhaustive]
pub enum LogGuard {
    /// `ln(max(x, value))`.
    Floor(f32),
    /// `ln(x + value)`.
    Add(f32),
}

/// What pre-emphasis runs over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum EmphasisOver {
    /// Each frame on its own, its first sample against itself (Kaldi).
    #[default]
    Frame,
    /// The whole signal, its first sample as it is (NeMo).
    Signal,
}

impl EmphasisOver {
    fn is_frame(&self) -> bool {
        *self == Self::Frame
    }
}

/// Where frames lie, how many there are, and what a frame that reaches beyond the audio sees there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
#[non_exhaustive]
pub enum Framing {
    /// Frame t begins at sample `t hop`; whole windows only, `1 + (n - W) / hop` of them.
    #[default]
    Whole,
    /// The middle of frame t is sample `t hop + hop / 2`, there are `(n + hop / 2) / hop`, and the audio is mirrored
    /// at its ends with the last sample repeated: Kaldi without `snip_edges`, as icefall and sherpa have it.
    Mirrored,
    /// The middle of frame t is sample `t hop`, and there are `1 + n / hop`: `torch.stft` with `center`.
    Centered {
        /// What stands beyond the ends.
        edge: Edge,
    },
    /// As `Centered` without the last frame: `n / hop` frames, as NeMo and Whisper count them.
    CenteredShort {
        /// What stands beyond the ends.
        edge: Edge,
    },
}

impl Framing {
    fn is_whole(&self) -> bool {
        *self == Self::Whole
    }
}

/// What stands beyond the ends of the audio.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Edge {
    /// Zeros.
    Zeros,
    /// The audio mirrored at its first and last sample, which are not repeated.
    Mirror,
}

/// The samples of mono audio as a model takes them that has its own front-end inside: `[T, 1]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaveformSpec {
    /// Samples per second the model was trained on.
    pub sample_rate: u32,
    /// The fewest samples the model takes, its receptive field: shorter audio has no text.
    pub shortest: usize,
    /// None, or mean and variance over the utterance: `(x - m) / sqrt(v + epsilon)` with v the mean of squares, as
    /// wav2vec2 models are fed.
    pub normalization: Normalization,
}

impl Default for WaveformSpec {
    /// wav2vec2's: 16 kHz, zero mean and unit variance, a receptive field of 400 samples.
    fn default() -> Self {
        Self {
            sample_rate: 16_000,
            shortest: 400,
            normalization: Normalization::Utterance { epsilon: 1e-7 },
        }
    }
}

impl Default for LogMelSpec {
    /// The front-end of models trained here: 80 filters from 20 to 7600 Hz on 25 ms frames every 10 ms of
    /// 16 kHz audio.
    ///
    /// Samples stay in [-1, 1]; no step depends on anything outside its frame. `ln(x + 1e-6)` flattens what
    /// lies below the quantization noise of 16-bit audio (in filters of height 1), so that digital silence
    /// and a quiet room look alike. The upper edge keeps clear of the roll-off of resamplers and codecs.
    fn default() -> Self {
        Self {
            sample_rate: 16_000,
            scale: 1.0,
            remove_dc: false,
            pre_emphasis: 0.0,
            emphasis_over: EmphasisOver::Frame,
            window: Window::HannPeriodic,
            window_length: 400,
            hop_length: 160,
            framing: Framing::Whole,
            fft_length: 512,
            spectrum: Spectrum::Power,
            mel: MelScale::Htk,
            mels: 80,
            low_hz: 20.0,
            high_hz: 7_600.0,
            log: LogGuard::Add(1e-6),
            normalization: Normalization::None,
        }
    }
}

impl LogMelSpec {
    /// Kaldi's filterbank over whole windows of samples in 16-bit units, dither off: what
    /// `torchaudio.compliance.kaldi.fbank` gives and WeNet trains on. 80 filters from 20 Hz to half the rate.
    pub fn kaldi() -> Self {
        Self {
            scale: 32_768.0,
            remove_dc: true,
            pre_emphasis: 0.97,
            window: Window::Povey,
            mel: MelScale::Kaldi,
            high_hz: 8_000.0,
            log: LogGuard::Floor(f32::EPSILON),
            ..Self::default()
        }
    }

    /// The filterbank of icefall: Kaldi's on samples in [-1, 1], frames to the very ends, up to 7600 Hz.
    pub fn icefall() -> Self {
        Self {
            scale: 1.0,
            high_hz: 7_600.0,
            framing: Framing::Mirrored,
            ..Self::kaldi()
        }
    }

    /// The mel spectrogram of NeMo: pre-emphasis over the signal, Slaney's filters, `ln(x + 2^-24)`, each filter
    /// normalized over the utterance.
    pub fn nemo() -> Self {
        Self {
            pre_emphasis: 0.97,
            emphasis_over: EmphasisOver::Signal,
            window: Window::Hann,
            framing: Framing::CenteredShort { edge: Edge::Zeros },
            mel: MelScale::Slaney,
            low_hz: 0.0,
            high_hz: 8_000.0,
            log: LogGuard::Add(5.960_464_5e-8),
            normalization: Normalization::Utterance { epsilon: 1e-5 },
            ..Self::default()
        }
    }

    /// The log-mel spectrogram of Whisper: base-10 logarithms, at most 8 below the loudest, plus 4, over 4; here in
    /// natural logarithms with the same constants times ln 10.
    pub fn whisper() -> Self {
        const LN_10: f32 = std::f32::consts::LN_10;
        Self {
            framing: Framing::CenteredShort { edge: Edge::Mirror },
            fft_length: 400,
            mel: MelScale::Slaney,
            low_hz: 0.0,
            high_hz: 8_000.0,
            log: LogGuard::Floor(1e-10),
            normalization: Normalization::Peak {
                range: 8.0 * LN_10,
                mean: -4.0 * LN_10,
                deviation: 4.0 * LN_10,
            },
            ..Self::default()
        }
    }
}
