//! One frame of samples to its power or magnitude spectrum, `[window_length]` to `[fft_length / 2 + 1]`.
//!
//! `y[i] = w[i] scale ((x[i] - m) - a (x[i-1] - m))` with m the frame's mean (or 0), a the pre-emphasis
//! factor, `x[-1] = x[0]`, w the window; zeros on the right up to `fft_length`; then `|X[k]|^2` or `|X[k]|`.

use super::mel::MelBank;
use crate::spec::{LogMelSpec, Spectrum, Window};
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
            pre_emphasis: spec.pre_emphasis,
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
