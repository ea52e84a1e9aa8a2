//! Interleaved frames `[n, channels]` to their mean `[n]`, checked as they come, and the bounds on all sounds.

use super::{Audio, CHANNELS, MAX_FRAMES, SAMPLE_RATES, malformed};
use crate::{Error, ErrorKind, Result};

/// Largest magnitude of a sample: floats in integer units pass, numbers that would overflow the features do not.
const MAX_MAGNITUDE: f32 = 2_147_483_648.0;

/// Averages interleaved frames as they are decoded, so that memory holds one channel, and checks each.
pub(super) struct Mixer {
    pub(super) mono: Vec<f32>,
    pub(super) channels: u16,
    /// What a sample that is no sane number means.
    blame: ErrorKind,
    limit: usize,
}

impl Mixer {
    pub(super) fn new(channels: u16, blame: ErrorKind) -> Self {
        Self {
            mono: Vec::new(),
            channels,
            blame,
            limit: MAX_FRAMES,
        }
    }

    /// Takes whole frames, interleaved.
    pub(super) fn push(&mut self, samples: &[f32]) -> Result<()> {
        let channels = usize::from(self.channels);
        let frames = samples.len() / channels;
        check_length(self.mono.len() + frames, self.limit)?;
        check_finite(samples, channels, self.mono.len(), self.blame)?;
        self.mono.try_reserve(frames).map_err(no_memory)?;
        if channels == 1 {
            self.mono.extend_from_slice(samples);
        } else {
            let scale = 1.0 / f64::from(self.channels);
            self.mono.extend(
                samples
                    .chunks_exact(channels)
                    .map(|frame| (frame.iter().map(|&x| f64::from(x)).sum::<f64>() * scale) as f32),
            );
        }
        Ok(())
    }

    pub(super) fn finish(self, sample_rate: u32) -> Audio {
        Audio {
            mono: self.mono,
            sample_rate,
            channels: self.channels,
        }
    }
}

pub(super) fn check_length(frames: usize, limit: usize) -> Result<()> {
    if frames > limit {
        return Err(Error::new(
            ErrorKind::Limit,
            format!(
                "there are more than {limit} frames, the most that fit in one piece: cut the audio into parts"
            ),
        ));
    }
    Ok(())
}

/// Refuses samples that are NaN, infinite or absurdly large, naming the frame; `first` is that of `samples[0]`.
pub(super) fn check_finite(
    samples: &[f32],
    channels: usize,
    first: usize,
    blame: ErrorKind,
) -> Result<()> {
    match samples
        .iter()
        .position(|x| x.is_nan() || x.abs() > MAX_MAGNITUDE)
    {
        None => Ok(()),
        Some(at) => Err(Error::new(
            blame,
            format!(
                "the sample at frame {} is {}, expected a finite number, usually between -1 and 1",
                first + at / channels,
                samples[at]
            ),
        )),
    }
}

/// Holds a file's rate and channel count against what is read.
pub(super) fn check_shape(sample_rate: u32, channels: u32) -> Result<u16> {
    if sample_rate == 0 || channels == 0 {
        return Err(malformed(format!(
            "the header gives {sample_rate} Hz and {channels} channels, expected at least one of each"
        )));
    }
    if !SAMPLE_RATES.contains(&sample_rate) {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "the sample rate is {sample_rate} Hz, expected {} to {}: resample the file",
                SAMPLE_RATES.start(),
                SAMPLE_RATES.end()
            ),
        ));
    }
    match u16::try_from(channels) {
        Ok(count) if CHANNELS.contains(&count) => Ok(count),
        _ => Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "the file has {channels} channels, expected at most {}: mix it down",
                CHANNELS.end()
            ),
        )),
    }
}

pub(super) fn no_memory(cause: std::collections::TryReserveError) -> Error {
    Error::new(
        ErrorKind::Limit,
        "no memory for the samples: cut the audio into parts",
    )
    .with_source(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_the_channels_of_each_frame() {
        let mut mixer = Mixer::new(2, ErrorKind::Malformed);
        mixer.push(&[1.0, 0.0, -0.5, 0.5]).unwrap();
        mixer.push(&[0.25, 0.75]).unwrap();
        assert_eq!(mixer.finish(16_000).samples(), [0.5, 0.0, 0.5]);
    }

    #[test]
    fn stops_at_the_limit_before_it_takes_memory() {
        let mut mixer = Mixer::new(1, ErrorKind::Malformed);
        mixer.limit = 100;
        mixer.push(&[0.0; 100]).unwrap();
        let error = mixer.push(&[0.0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit);
        assert_eq!(mixer.mono.len(), 100);
    }

    #[test]
    fn names_the_frame_of_a_sample_that_is_no_number() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30] {
            let mut mixer = Mixer::new(2, ErrorKind::Malformed);
            mixer.push(&[0.0; 20]).unwrap();
            let error = mixer.push(&[0.0, 0.0, 0.0, bad]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Malformed);
            assert!(error.to_string().contains("frame 11 "), "{error}");
        }
    }
}
