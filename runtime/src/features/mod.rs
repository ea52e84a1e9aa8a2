//! Raw input to the features `[T, F]` a model takes: log-mel filterbank energies of audio, or the columns of an image
//! of text (`line`).
//!
//! For audio, one frame is a pure function of its own samples, so a stream and a whole utterance give the same bits:
//! 1. `stft`: scale, DC removal, pre-emphasis, window, FFT, `|X|^2` or `|X|`;
//! 2. `mel`: triangular filters on that spectrum;
//! 3. `log`: a guarded natural logarithm;
//! 4. `fbank`: framing, normalization, and the two ways in, [`Fbank::compute`] and [`Fbank::stream`].
//!
//! Axis letters: T frames, F features (mel filters).

mod fbank;
mod line;
mod log;
mod mel;
mod stft;
mod validate;

pub use fbank::{Fbank, FbankStream};
pub use line::{Line, LineReader};

use crate::spec::{LogGuard, LogMelSpec, MelScale, Normalization, Spectrum, Window};

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
            window: Window::HannPeriodic,
            window_length: 400,
            hop_length: 160,
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
