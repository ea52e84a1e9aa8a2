//! Raw input to the features `[T, F]` a model takes: log-mel filterbank energies of audio, its samples themselves
//! (`waveform`), or the columns of an image of text (`line`).
//!
//! For log-mel energies, one frame is a pure function of the samples around it, so a stream and a whole utterance give
//! the same bits:
//! 1. `framing`: where frames lie and what they see beyond the ends of the audio; pre-emphasis of the whole signal;
//! 2. `stft`: scale, DC removal, pre-emphasis, window, FFT, `|X|^2` or `|X|`;
//! 3. `mel`: triangular filters on that spectrum;
//! 4. `log`: a guarded natural logarithm;
//! 5. `fbank`: all of it, normalization, and the two ways in, [`Fbank::compute`] and [`Fbank::stream`].
//!
//! [`AudioFeatures`] is whichever of the two a model's spec asks for.
//!
//! Axis letters: T frames, F features (mel filters).

mod audio;
mod bilinear;
mod fbank;
mod framing;
#[cfg(test)]
mod golden_audio;
mod line;
mod log;
mod mel;
mod stft;
mod waveform;

pub use audio::{AudioFeatures, AudioStream};
pub use fbank::{Fbank, FbankStream};
pub use line::{Line, LineReader};
pub use waveform::{Waveform, WaveformStream};
