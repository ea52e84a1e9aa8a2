//! Sample-rate conversion in a stream: `[n]` samples in, exactly `round(n * to / from)` out.
//!
//! One resampler for files and live audio: `rubato`'s synchronous FFT type with one block size, so that any
//! sizes of [`push`](Resampler::push) give the same bits. A block spans [`BLOCK`] samples of the slower of
//! the two rates: that is the length of the anti-aliasing filter, a sinc under a Blackman-Harris window. Its
//! stop-band lies below -140 dB from the slower rate's Nyquist frequency on, and the pass-band is flat to 95 %
//! of it (7.6 kHz when the slower rate is 16 kHz; both measured with sines). The filter's delay is cut off at
//! the start and fed after with zeros at the end, so that sample k of the output is the input at time `k / to`
//! seconds.

use super::SAMPLE_RATES;
use super::mix::no_memory;
use crate::{Error, ErrorKind, Result};
use rubato::audioadapter_buffers::direct::SequentialSlice;
use rubato::{Fft, FixedSync, Indexing, Resampler as _, WindowFunction};

/// Least samples of the slower rate in a block: 20 ms at 16 kHz.
const BLOCK: u32 = 320;

/// Converts mono samples from one rate to another, piece by piece.
#[derive(Debug)]
pub struct Resampler {
    from: u32,
    to: u32,
    /// Absent when the rates are equal.
    blocks: Option<Blocks>,
    /// Samples taken since the start.
    taken: usize,
    /// Samples given since the start.
    given: usize,
}

#[derive(Debug)]
struct Blocks {
    fft: Fft<f32>,
    /// Samples of a block that is not full yet.
    pending: Vec<f32>,
    block: usize,
    out: Vec<f32>,
    /// Samples of the filter's delay still to be dropped.
    delay: usize,
}

impl Resampler {
    /// A resampler from `from` Hz to `to` Hz; with equal rates, samples pass unchanged and at once.
    ///
    /// Otherwise output lags input by at most 1.5 blocks, a block being 20 ms from or to 16 kHz and any common
    /// rate. Pairs of rates without a common divisor need longer blocks, up to 2 s.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] when a rate is outside [`SAMPLE_RATES`].
    pub fn new(from: u32, to: u32) -> Result<Self> {
        for rate in [from, to] {
            if !SAMPLE_RATES.contains(&rate) {
                return Err(Error::new(
                    ErrorKind::InvalidArgument,
                    format!(
                        "cannot resample from {from} Hz to {to} Hz: rates must be {} to {}",
                        SAMPLE_RATES.start(),
                        SAMPLE_RATES.end()
                    ),
                ));
            }
        }
        Ok(Self {
            from,
            to,
            blocks: (from != to).then(|| Blocks::new(from, to)).transpose()?,
            taken: 0,
            given: 0,
        })
    }

    /// How many samples an utterance of `samples` samples becomes: `round(samples * to / from)`, halves up.
    pub fn output_length(&self, samples: usize) -> usize {
        let (from, to) = (u128::from(self.from), u128::from(self.to));
        let rounded = (2 * samples as u128 * to + from) / (2 * from);
        usize::try_from(rounded).unwrap_or(usize::MAX)
    }

    /// Takes samples and appends to `out` what they complete.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for a sample that is not finite (nothing of this push is then taken:
    /// it would spoil its whole block), [`ErrorKind::Limit`] when `out` cannot grow.
    pub fn push(&mut self, samples: &[f32], out: &mut Vec<f32>) -> Result<()> {
        if let Some(at) = samples.iter().position(|x| !x.is_finite()) {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "sample {} since the start is {}: samples must be finite numbers",
                    self.taken + at,
                    samples[at]
                ),
            ));
        }
        let before = out.len();
        match &mut self.blocks {
            None => {
                out.try_reserve(samples.len()).map_err(no_memory)?;
                out.extend_from_slice(samples);
            }
            Some(blocks) => {
                let mut rest = samples;
                while !rest.is_empty() {
                    let (head, tail) =
                        rest.split_at(rest.len().min(blocks.block - blocks.pending.len()));
                    blocks.pending.extend_from_slice(head);
                    rest = tail;
                    if blocks.pending.len() == blocks.block {
                        blocks.process(out)?;
                    }
                }
            }
        }
        self.taken += samples.len();
        self.given += out.len() - before;
        Ok(())
    }

    /// Appends the rest of the utterance to `out`, which completes
    /// [`output_length`](Self::output_length) samples, and starts anew.
    ///
    /// # Errors
    /// [`ErrorKind::Limit`] when `out` cannot grow.
    pub fn finish(&mut self, out: &mut Vec<f32>) -> Result<()> {
        let missing = self.output_length(self.taken).saturating_sub(self.given);
        let target = out.len() + missing;
        if let Some(blocks) = &mut self.blocks {
            while out.len() < target {
                blocks.process(out)?;
            }
            out.truncate(target);
            blocks.reset();
        }
        (self.taken, self.given) = (0, 0);
        Ok(())
    }
}

impl Blocks {
    fn new(from: u32, to: u32) -> Result<Self> {
        let divisor = gcd(from, to);
        // The least block with whole samples on both sides. An even number of them keeps the filter's
        // center, and with it the delay, on a whole sample of either rate.
        let slower = from.min(to) / divisor;
        let units = BLOCK.div_ceil(slower).next_multiple_of(2);
        let block = (from / divisor) as usize * units as usize;
        let fft = Fft::new_custom(
            from as usize,
            to as usize,
            block,
            1,
            1,
            WindowFunction::BlackmanHarris,
            FixedSync::Both,
        )
        .map_err(|e| {
            Error::new(
                ErrorKind::InvalidArgument,
                format!("cannot resample from {from} Hz to {to} Hz"),
            )
            .with_source(e)
        })?;
        Ok(Self {
            pending: Vec::with_capacity(block),
            block: fft.input_frames_next(),
            out: vec![0.0; fft.output_frames_next()],
            delay: fft.output_delay(),
            fft,
        })
    }

    /// Runs the pending block, filled up with zeros, and appends what it gives behind the delay.
    fn process(&mut self, out: &mut Vec<f32>) -> Result<()> {
        let partial = Indexing::new().partial_len(self.pending.len());
        self.pending.resize(self.block, 0.0);
        let input =
            SequentialSlice::new(self.pending.as_slice(), 1, self.block).map_err(internal)?;
        let frames = self.out.len();
        let mut output =
            SequentialSlice::new_mut(self.out.as_mut_slice(), 1, frames).map_err(internal)?;
        self.fft
            .process_into_buffer(&input, &mut output, Some(&partial))
            .map_err(internal)?;
        self.pending.clear();
        let dropped = self.delay.min(frames);
        self.delay -= dropped;
        out.try_reserve(frames).map_err(no_memory)?;
        out.extend_from_slice(&self.out[dropped..]);
        Ok(())
    }

    fn reset(&mut self) {
        self.fft.reset();
        self.pending.clear();
        self.delay = self.fft.output_delay();
    }
}

/// An error of the resampler that its fixed sizes rule out.
fn internal(cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(
        ErrorKind::InvalidArgument,
        "the resampler refused its own buffers",
    )
    .with_source(cause)
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::f64::consts::TAU;

    fn convert(samples: &[f32], from: u32, to: u32) -> Vec<f32> {
        let mut resampler = Resampler::new(from, to).unwrap();
        let mut out = Vec::new();
        resampler.push(samples, &mut out).unwrap();
        resampler.finish(&mut out).unwrap();
        out
    }

    fn sine(hz: f64, rate: u32, samples: usize) -> Vec<f32> {
        (0..samples)
            .map(|n| (TAU * hz * n as f64 / f64::from(rate)).sin() as f32)
            .collect()
    }

    /// The largest magnitude away from the ends.
    fn peak(samples: &[f32]) -> f32 {
        let edge = samples.len() / 8;
        samples[edge..samples.len() - edge]
            .iter()
            .fold(0.0, |m, x| x.abs().max(m))
    }

    #[test]
    fn a_tone_in_the_pass_band_stays_in_place() {
        for from in [
            8_000, 11_025, 22_050, 32_000, 44_100, 48_000, 96_000, 192_000, 44_056,
        ] {
            for hz in [200.0, 1_000.0, 3_400.0] {
                let out = convert(&sine(hz, from, from as usize), from, 16_000);
                let expected = sine(hz, 16_000, 16_000);
                assert_eq!(out.len(), expected.len());
                let worst = (1_000..15_000)
                    .map(|n| (out[n] - expected[n]).abs())
                    .fold(0.0, f32::max);
                assert!(worst < 1e-3, "{hz} Hz from {from} Hz is off by {worst}");
            }
        }
    }

    #[test]
    fn a_tone_in_the_stop_band_is_gone() {
        for (from, hz) in [
            (48_000, 9_000.0),
            (48_000, 8_050.0),
            (44_100, 9_000.0),
            (192_000, 50_000.0),
        ] {
            let peak = peak(&convert(&sine(hz, from, from as usize), from, 16_000));
            assert!(
                peak < 1e-4,
                "{hz} Hz from {from} Hz leaves {peak}, above -80 dB"
            );
        }
    }

    #[test]
    fn nothing_is_lost_at_the_ends() {
        // A short bump at the very start, in the middle and at the very end must come out where it went in.
        for (from, to) in [(48_000u32, 16_000u32), (44_100, 16_000), (8_000, 16_000)] {
            let samples = from as usize / 10;
            for center in [0.0, 0.05, 0.1 - 1.0 / f64::from(to)] {
                let bump = |t: f64| (-((t - center) / 0.0005).powi(2)).exp() as f32;
                let input: Vec<f32> = (0..samples)
                    .map(|n| bump(n as f64 / f64::from(from)))
                    .collect();
                let out = convert(&input, from, to);
                let at = out
                    .iter()
                    .enumerate()
                    .max_by(|a, b| a.1.total_cmp(b.1))
                    .unwrap()
                    .0;
                let expected = center * f64::from(to);
                // The zeros assumed behind the last sample pull the very last peak in by up to two samples.
                assert!(
                    (at as f64 - expected).abs() < 2.5,
                    "{from} to {to}: {at}, expected {expected}"
                );
            }
        }
    }

    #[test]
    fn rates_without_a_common_divisor_work_and_bad_ones_are_refused() {
        assert_eq!(convert(&[0.5; 48_001], 48_001, 16_000).len(), 16_000);
        for (from, to) in [(0, 16_000), (16_000, 0), (999, 16_000), (16_000, 768_001)] {
            let error = Resampler::new(from, to).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(
                error.to_string().contains(&format!("{from} Hz to {to} Hz")),
                "{error}"
            );
        }
    }

    #[test]
    fn a_sample_that_is_no_number_is_refused_and_not_taken() {
        for to in [16_000, 48_000] {
            let mut resampler = Resampler::new(48_000, to).unwrap();
            let mut out = Vec::new();
            resampler.push(&[0.0; 100], &mut out).unwrap();
            let error = resampler.push(&[0.0, f32::NAN], &mut out).unwrap_err();
            assert!(error.to_string().contains("sample 101 "), "{error}");
            resampler.finish(&mut out).unwrap();
            assert_eq!(out.len(), resampler.output_length(100));
        }
    }

    #[test]
    fn a_finished_resampler_starts_anew() {
        let input = sine(440.0, 44_100, 5_000);
        let mut resampler = Resampler::new(44_100, 16_000).unwrap();
        let mut first = Vec::new();
        resampler.push(&input, &mut first).unwrap();
        resampler.finish(&mut first).unwrap();
        let mut second = Vec::new();
        resampler.push(&input, &mut second).unwrap();
        resampler.finish(&mut second).unwrap();
        assert_eq!(first, second);
    }

    proptest! {
        #[test]
        fn any_pushes_give_the_same_bits_and_the_exact_length(
            rates in prop_oneof![
                Just((48_000u32, 16_000u32)), Just((44_100, 16_000)), Just((8_000, 16_000)), Just((16_000, 16_000)),
                Just((22_050, 16_000)), Just((16_000, 48_000)), (1_000u32..3_000, 1_000u32..3_000),
            ],
            pushes in proptest::collection::vec(0usize..1_500, 0..8),
        ) {
            let samples: usize = pushes.iter().sum();
            let input: Vec<f32> = (0..samples).map(|n| ((n * n) % 997) as f32 / 997.0 - 0.5).collect();
            let whole = convert(&input, rates.0, rates.1);
            let mut resampler = Resampler::new(rates.0, rates.1).unwrap();
            let (mut out, mut rest) = (Vec::new(), input.as_slice());
            for push in pushes {
                let (head, tail) = rest.split_at(push);
                resampler.push(head, &mut out).unwrap();
                prop_assert!(out.len() <= resampler.output_length(samples));
                rest = tail;
            }
            resampler.finish(&mut out).unwrap();
            prop_assert_eq!(&out, &whole);
            let exact = samples as f64 * f64::from(rates.1) / f64::from(rates.0);
            prop_assert!((whole.len() as f64 - exact).abs() <= 0.5);
        }
    }
}
