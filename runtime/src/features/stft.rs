//! One frame of samples to its power or magnitude spectrum, `[window_length]` to `[fft_length / 2 + 1]`.
//!
//! `y[i] = w[i] scale ((x[i] - m) - a (x[i-1] - m))` with m the frame's mean (or 0), a the pre-emphasis
//! factor, `x[-1] = x[0]`, w the window; zeros on the right up to `fft_length`; then `|X[k]|^2` or `|X[k]|`.

use super::mel::MelBank;
use crate::spec::{EmphasisOver, LogMelSpec, Spectrum, Window};
use crate::{Error, ErrorKind, Result};
use realfft::num_complex::Complex;
use realfft::{RealFftPlanner, RealToComplex};
use std::f64::consts::TAU;
use std::sync::Arc;

/// The tables of one spec, shared by all streams.
pub(super) struct Stft {
    /// The window times `scale`.
    window: Vec<f32>,
    remove_dc: bool,
    pre_emphasis: f32,
    spectrum: Spectrum,
    fft: Arc<dyn RealToComplex<f32>>,
    spectrum_length: usize,
}

/// The buffers one stream works in.
pub(super) struct Work {
    frame: Vec<f32>,
    bins: Vec<Complex<f32>>,
    scratch: Vec<Complex<f32>>,
    /// The spectrum of the last frame, with zeros behind it for the mel filters' padding.
    pub(super) spectrum: Vec<f32>,
}

impl Stft {
    /// The tables of `spec`, whose fields have been validated.
    pub(super) fn new(spec: &LogMelSpec) -> Self {
        Self {
            window: window(spec.window, spec.window_length)
                .map(|w| (w * f64::from(spec.scale)) as f32)
                .collect(),
            remove_dc: spec.remove_dc,
            pre_emphasis: match spec.emphasis_over {
                EmphasisOver::Frame => spec.pre_emphasis,
                EmphasisOver::Signal => 0.0, // Done before frames were cut.
            },
            spectrum: spec.spectrum,
            fft: RealFftPlanner::new().plan_fft_forward(spec.fft_length),
            spectrum_length: MelBank::spectrum_length(spec),
        }
    }

    /// Buffers for one stream.
    pub(super) fn work(&self) -> Work {
        Work {
            frame: self.fft.make_input_vec(),
            bins: self.fft.make_output_vec(),
            scratch: self.fft.make_scratch_vec(),
            spectrum: vec![0.0; self.spectrum_length],
        }
    }

    /// The spectrum of `samples` `[window_length]` into `work.spectrum`.
    pub(super) fn process(&self, samples: &[f32], work: &mut Work) -> Result<()> {
        let mean = if self.remove_dc { mean(samples) } else { 0.0 };
        let (frame, padding) = work.frame.split_at_mut(self.window.len());
        if self.pre_emphasis != 0.0 {
            let a = self.pre_emphasis;
            frame[0] = (samples[0] - mean) * (1.0 - a) * self.window[0];
            for ((y, x), w) in frame[1..]
                .iter_mut()
                .zip(samples.windows(2))
                .zip(&self.window[1..])
            {
                *y = ((x[1] - mean) - a * (x[0] - mean)) * w;
            }
        } else {
            for ((y, x), w) in frame.iter_mut().zip(samples).zip(&self.window) {
                *y = (x - mean) * w;
            }
        }
        // The transform uses its input as scratch space, so the padding is written anew for every frame.
        padding.fill(0.0);
        self.fft
            .process_with_scratch(&mut work.frame, &mut work.bins, &mut work.scratch)
            .map_err(|e| {
                Error::new(ErrorKind::Spec, "the front-end's FFT refused its buffers")
                    .with_source(e)
            })?;
        let power = work.bins.iter().map(|x| x.re * x.re + x.im * x.im);
        match self.spectrum {
            Spectrum::Power => work
                .spectrum
                .iter_mut()
                .zip(power)
                .for_each(|(y, p)| *y = p),
            Spectrum::Magnitude => {
                work.spectrum
                    .iter_mut()
                    .zip(power)
                    .for_each(|(y, p)| *y = p.sqrt());
            }
        }
        Ok(())
    }
}

/// The mean, summed in eight lanes: fast, and the same for every way the samples arrived.
fn mean(samples: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let chunks = samples.chunks_exact(8);
    let rest: f32 = chunks.remainder().iter().sum();
    for chunk in chunks {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *sum += x;
        }
    }
    (sums.iter().sum::<f32>() + rest) / samples.len() as f32
}

/// The `length` points of a window.
fn window(shape: Window, length: usize) -> impl Iterator<Item = f64> {
    let symmetric = (length - 1) as f64;
    let periodic = length as f64;
    (0..length).map(move |n| {
        let n = n as f64;
        match shape {
            Window::Hann => 0.5 - 0.5 * (TAU * n / symmetric).cos(),
            Window::HannPeriodic => 0.5 - 0.5 * (TAU * n / periodic).cos(),
            Window::Hamming => 0.54 - 0.46 * (TAU * n / symmetric).cos(),
            Window::Povey => (0.5 - 0.5 * (TAU * n / symmetric).cos()).powf(0.85),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition at the top of this file, term by term in f64.
    fn naive(spec: &LogMelSpec, samples: &[f32]) -> Vec<f64> {
        let n = spec.window_length;
        let x: Vec<f64> = samples.iter().map(|&x| f64::from(x)).collect();
        let mean = if spec.remove_dc {
            x.iter().sum::<f64>() / n as f64
        } else {
            0.0
        };
        let frame: Vec<f64> = window(spec.window, n)
            .enumerate()
            .map(|(i, w)| {
                let before = x[i.saturating_sub(1)] - mean;
                w * f64::from(spec.scale) * (x[i] - mean - f64::from(spec.pre_emphasis) * before)
            })
            .collect();
        (0..=spec.fft_length / 2)
            .map(|k| {
                let turn = |i: usize| TAU * (k * i) as f64 / spec.fft_length as f64;
                let re: f64 = frame
                    .iter()
                    .enumerate()
                    .map(|(i, y)| y * turn(i).cos())
                    .sum();
                let im: f64 = frame
                    .iter()
                    .enumerate()
                    .map(|(i, y)| y * turn(i).sin())
                    .sum();
                match spec.spectrum {
                    Spectrum::Power => re * re + im * im,
                    Spectrum::Magnitude => (re * re + im * im).sqrt(),
                }
            })
            .collect()
    }

    #[test]
    fn equals_the_definition() {
        let samples: Vec<f32> = (0..60)
            .map(|n| ((n * n) % 101) as f32 / 101.0 - 0.3)
            .collect();
        let shapes = [
            Window::Hann,
            Window::HannPeriodic,
            Window::Hamming,
            Window::Povey,
        ];
        for (case, window) in shapes.into_iter().enumerate() {
            for fft_length in [64, 63, 60] {
                let spec = LogMelSpec {
                    window,
                    window_length: 60,
                    fft_length,
                    scale: [1.0, 32_768.0][case % 2],
                    remove_dc: case > 1,
                    pre_emphasis: [0.0, 0.97][case / 2],
                    spectrum: [Spectrum::Power, Spectrum::Magnitude][case % 2],
                    ..Default::default()
                };
                let stft = Stft::new(&spec);
                let mut work = stft.work();
                // Twice: the second frame must not see what the first left behind.
                stft.process(&[0.9; 60], &mut work).unwrap();
                stft.process(&samples, &mut work).unwrap();
                let expected = naive(&spec, &samples);
                let largest = expected.iter().fold(0.0f64, |m, x| m.max(*x));
                for (found, expected) in work.spectrum.iter().zip(&expected) {
                    assert!(
                        (f64::from(*found) - expected).abs() < 1e-5 * largest,
                        "{window:?} {fft_length}"
                    );
                }
                assert!(work.spectrum[expected.len()..].iter().all(|&x| x == 0.0));
            }
        }
    }

    #[test]
    fn windows_have_their_known_points() {
        let points = |shape| window(shape, 5).collect::<Vec<_>>();
        let close = |a: Vec<f64>, b: [f64; 5]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12);
        assert!(close(points(Window::Hann), [0.0, 0.5, 1.0, 0.5, 0.0]));
        assert!(close(
            points(Window::Hamming),
            [0.08, 0.54, 1.0, 0.54, 0.08]
        ));
        assert!(close(
            points(Window::Povey),
            [0.0, 0.5f64.powf(0.85), 1.0, 0.5f64.powf(0.85), 0.0]
        ));
        let periodic = points(Window::HannPeriodic);
        assert!(
            periodic[0] == 0.0 && (periodic[1] - periodic[4]).abs() < 1e-12 && periodic[2] < 1.0
        );
    }
}
