//! Samples cut into frames of W, whole or pushed in pieces: where frames lie, and what those at the ends see.
//!
//! Frame t begins at sample `t hop - lead`. What lies before sample 0 and beyond the last sample n - 1 is zeros or the
//! audio mirrored there: sample `-k` is sample k, or `k - 1` where the edge is repeated. The ends are made once, at
//! the start and in [`Framer::finish`]; all between is cut as it comes, in memory bounded by one window and one block.

use crate::Result;
use crate::spec::{Edge, EmphasisOver, Framing, LogMelSpec};

/// Samples taken at a time: bounds a stream's memory whatever is pushed.
const BLOCK: usize = 4_096;

/// What stands beyond an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beyond {
    /// No frame reaches there.
    Nothing,
    Zeros,
    Mirror,
    MirrorRepeated,
}

/// The cut of one spec, and how far it has come.
#[derive(Debug, Clone)]
pub(super) struct Framer {
    window: usize,
    hop: usize,
    framing: Framing,
    beyond: Beyond,
    /// Samples of frame 0 before sample 0.
    lead: usize,
    /// Pre-emphasis over the signal, 0 for none.
    emphasis: f32,
    /// Samples from a margin before the next frame on, what was made up before sample 0 included.
    pending: Vec<f32>,
    /// Where in `pending` the next frame begins; beyond its end where frames lie apart.
    next: usize,
    /// Whether what stands before sample 0 was put into `pending`.
    begun: bool,
    /// Samples taken in; 64 bits, as a stream may never end.
    samples: u64,
    /// Frames cut.
    frames: u64,
    /// The last sample before pre-emphasis.
    last: f32,
}

impl Framer {
    /// The cut of `spec`, whose fields have been validated.
    pub(super) fn new(spec: &LogMelSpec) -> Self {
        let (window, hop, fft) = (spec.window_length, spec.hop_length, spec.fft_length);
        let of_edge = |edge| match edge {
            Edge::Zeros => Beyond::Zeros,
            Edge::Mirror => Beyond::Mirror,
        };
        let (beyond, lead, gap) = match spec.framing {
            Framing::Whole => (Beyond::Nothing, 0, 0),
            Framing::Mirrored => (
                Beyond::MirrorRepeated,
                (window / 2).saturating_sub(hop / 2),
                (hop / 2).saturating_sub(window / 2),
            ),
            Framing::Centered { edge } | Framing::CenteredShort { edge } => {
                (of_edge(edge), fft / 2 - (fft - window) / 2, 0)
            }
        };
        Self {
            window,
            hop,
            framing: spec.framing,
            beyond,
            lead,
            emphasis: match spec.emphasis_over {
                EmphasisOver::Signal => spec.pre_emphasis,
                EmphasisOver::Frame => 0.0,
            },
            pending: Vec::new(),
            next: gap,
            begun: lead == 0,
            samples: 0,
            frames: 0,
            last: 0.0,
        }
    }

    /// Frames of `samples` samples.
    pub(super) fn count(&self, samples: u64) -> u64 {
        let (window, hop) = (self.window as u64, self.hop as u64);
        match self.framing {
            Framing::Whole => match samples.checked_sub(window) {
                Some(rest) => 1 + rest / hop,
                None => 0,
            },
            Framing::Mirrored => samples.saturating_add(hop / 2) / hop,
            Framing::Centered { .. } if samples == 0 => 0,
            Framing::Centered { .. } => 1 + samples / hop,
            Framing::CenteredShort { .. } => samples / hop,
        }
    }

    /// Frames that `samples` more and the end of the audio can complete, at most.
    pub(super) fn upcoming(&self, samples: usize) -> usize {
        let all = self.count(self.samples.saturating_add(samples as u64));
        usize::try_from(all.saturating_sub(self.frames)).unwrap_or(usize::MAX)
    }

    /// Takes samples and hands out every frame they complete.
    pub(super) fn push(
        &mut self,
        samples: &[f32],
        mut frame: impl FnMut(&[f32]) -> Result<()>,
    ) -> Result<usize> {
        let before = self.frames;
        for block in samples.chunks(BLOCK) {
            self.take(block);
            if !self.begun && self.pending.len() > self.lead {
                self.begin();
            }
            if self.begun {
                self.cut(&mut frame)?;
            }
        }
        Ok((self.frames - before) as usize)
    }

    /// Ends the audio and hands out the frames that reach beyond it. The next push starts another.
    pub(super) fn finish(&mut self, mut frame: impl FnMut(&[f32]) -> Result<()>) -> Result<usize> {
        let before = self.frames;
        let total = self.count(self.samples);
        if total > before {
            if !self.begun {
                self.begin();
            }
            let end = self.next + (total - before - 1) as usize * self.hop + self.window;
            let real = self.pending.len();
            for at in real..end {
                let beyond = at - real;
                let value = match self.beyond {
                    Beyond::Nothing | Beyond::Zeros => 0.0,
                    Beyond::Mirror | Beyond::MirrorRepeated => self.after_end(real, beyond),
                };
                self.pending.push(value);
            }
            self.cut(&mut frame)?;
        }
        let frames = self.frames - before;
        self.reset();
        Ok(frames as usize)
    }

    /// Forgets all samples.
    pub(super) fn reset(&mut self) {
        let gap = match self.framing {
            Framing::Mirrored => (self.hop / 2).saturating_sub(self.window / 2),
            _ => 0,
        };
        self.pending.clear();
        (self.next, self.begun) = (gap, self.lead == 0);
        (self.samples, self.frames, self.last) = (0, 0, 0.0);
    }

    fn take(&mut self, block: &[f32]) {
        if self.emphasis == 0.0 {
            self.pending.extend_from_slice(block);
        } else {
            for &sample in block {
                // The first sample is as it is: nothing came before it.
                self.pending.push(sample - self.emphasis * self.last);
                self.last = sample;
            }
        }
        self.samples += block.len() as u64;
    }

    /// Puts what stands before sample 0 in front of the samples there are.
    fn begin(&mut self) {
        let held = self.pending.len();
        let at = |k: usize| match self.beyond {
            Beyond::Nothing | Beyond::Zeros => 0.0,
            Beyond::Mirror => self.pending[folded(k, held, false)],
            Beyond::MirrorRepeated => self.pending[folded(k - 1, held, true)],
        };
        let prefix: Vec<f32> = (1..=self.lead).rev().map(at).collect();
        self.pending.splice(0..0, prefix);
        self.begun = true;
    }

    /// What stands `k` samples beyond the first that follows the first `real` pending ones.
    fn after_end(&self, real: usize, k: usize) -> f32 {
        let repeated = self.beyond == Beyond::MirrorRepeated;
        let at = match usize::try_from(self.samples) {
            // All of a short audio is still here, and is mirrored as often as needed.
            Ok(all) if all > 0 && real == self.lead + all => {
                Some(self.lead + folded(all + k, all, repeated))
            }
            // Of a longer one there is a margin to look back on.
            _ => real.checked_sub(k + 1 + usize::from(!repeated)),
        };
        at.and_then(|at| self.pending.get(at))
            .copied()
            .unwrap_or_default()
    }

    fn cut(&mut self, frame: &mut impl FnMut(&[f32]) -> Result<()>) -> Result<()> {
        let most = self.count(self.samples);
        while self.frames < most && self.pending.len() >= self.next + self.window {
            frame(&self.pending[self.next..self.next + self.window])?;
            self.frames += 1;
            self.next += self.hop;
        }
        // A mirror at the end looks back by half a window and one.
        let margin = match self.beyond {
            Beyond::Nothing | Beyond::Zeros => 0,
            Beyond::Mirror | Beyond::MirrorRepeated => self.window,
        };
        let done = self.next.saturating_sub(margin).min(self.pending.len());
        self.pending.drain(..done);
        self.next -= done;
        Ok(())
    }
}

/// The index within `length` samples that index `k` is mirrored to, edges repeated or not.
fn folded(k: usize, length: usize, repeated: bool) -> usize {
    let period = match repeated {
        true => 2 * length,
        false => (2 * length).saturating_sub(2),
    };
    let k = k % period.max(1);
    match repeated {
        true if k >= length => period - 1 - k,
        false if k >= length => period - k,
        _ => k,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FRAMINGS: [Framing; 6] = [
        Framing::Whole,
        Framing::Mirrored,
        Framing::Centered { edge: Edge::Zeros },
        Framing::Centered { edge: Edge::Mirror },
        Framing::CenteredShort { edge: Edge::Zeros },
        Framing::CenteredShort { edge: Edge::Mirror },
    ];

    fn spec(framing: Framing, window: usize, hop: usize, fft: usize) -> LogMelSpec {
        LogMelSpec {
            framing,
            window_length: window,
            hop_length: hop,
            fft_length: fft,
            ..LogMelSpec::default()
        }
    }

    fn frames(framer: &mut Framer, pieces: &[&[f32]]) -> Vec<Vec<f32>> {
        let mut out = Vec::new();
        for piece in pieces {
            let mut keep = |frame: &[f32]| {
                out.push(frame.to_vec());
                Ok(())
            };
            framer.push(piece, &mut keep).unwrap();
        }
        let mut keep = |frame: &[f32]| {
            out.push(frame.to_vec());
            Ok(())
        };
        framer.finish(&mut keep).unwrap();
        out
    }

    /// The definition at the top of the file, sample by sample.
    fn naive(spec: &LogMelSpec, x: &[f32]) -> Vec<Vec<f32>> {
        let framer = Framer::new(spec);
        let (n, w, hop) = (
            x.len() as i64,
            spec.window_length as i64,
            spec.hop_length as i64,
        );
        let fft = spec.fft_length as i64;
        (0..framer.count(x.len() as u64) as i64)
            .map(|t| {
                let start = match spec.framing {
                    Framing::Whole => t * hop,
                    Framing::Mirrored => t * hop + hop / 2 - w / 2,
                    _ => t * hop - fft / 2 + (fft - w) / 2,
                };
                (start..start + w)
                    .map(|mut i| {
                        let edge = match spec.framing {
                            Framing::Centered { edge } | Framing::CenteredShort { edge } => edge,
                            _ => Edge::Mirror,
                        };
                        let repeated = i64::from(spec.framing == Framing::Mirrored);
                        while !(0..n).contains(&i) {
                            if edge == Edge::Zeros || (n == 1 && repeated == 0) {
                                return if edge == Edge::Zeros { 0.0 } else { x[0] };
                            }
                            i = if i < 0 {
                                -i - repeated
                            } else {
                                2 * n - 2 + repeated - i
                            };
                        }
                        x[i as usize]
                    })
                    .collect()
            })
            .collect()
    }

    #[test]
    fn known_frames() {
        let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let cut = |framing| frames(&mut Framer::new(&spec(framing, 4, 2, 4)), &[&x]);
        assert_eq!(cut(Framing::Whole), [[1., 2., 3., 4.], [3., 4., 5., 6.]]);
        assert_eq!(
            cut(Framing::Mirrored),
            [[1., 1., 2., 3.], [2., 3., 4., 5.], [4., 5., 6., 6.]]
        );
        let centered = cut(Framing::Centered { edge: Edge::Mirror });
        assert_eq!(centered[0], [3., 2., 1., 2.]);
        assert_eq!(centered[3], [5., 6., 5., 4.]);
        let short = cut(Framing::CenteredShort { edge: Edge::Zeros });
        assert_eq!(short.len(), 3);
        assert_eq!(short[0], [0., 0., 1., 2.]);
        let one = Framing::Centered { edge: Edge::Mirror };
        let one = frames(&mut Framer::new(&spec(one, 7, 1, 7)), &[&[5.0]]);
        assert_eq!(one, [[5.0; 7]; 2]);
    }

    #[test]
    fn emphasis_runs_over_the_signal() {
        let spec = LogMelSpec {
            pre_emphasis: 0.5,
            emphasis_over: EmphasisOver::Signal,
            ..spec(Framing::Whole, 3, 2, 4)
        };
        let found = frames(&mut Framer::new(&spec), &[&[2.0, 4.0], &[6.0, 8.0, 10.0]]);
        assert_eq!(found, [[2.0, 3.0, 4.0], [4.0, 5.0, 6.0]]);
    }

    proptest! {
        #[test]
        fn any_pushes_give_the_frames_of_the_definition(
            which in 0usize..6, window in 2usize..12, hop in 1usize..16, padding in 0usize..5, n in 0usize..60,
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..5),
        ) {
            let spec = spec(FRAMINGS[which], window, hop, window + padding);
            let x: Vec<f32> = (0..n).map(|i| i as f32 + 1.0).collect();
            let mut cuts: Vec<usize> = cuts.iter().map(|c| c.index(n + 1)).collect();
            cuts.extend([0, n]);
            cuts.sort_unstable();
            let pieces: Vec<&[f32]> = cuts.windows(2).map(|w| &x[w[0]..w[1]]).collect();
            let mut framer = Framer::new(&spec);
            let expected = naive(&spec, &x);
            prop_assert_eq!(&frames(&mut framer, &pieces), &expected);
            // A finished framer starts anew.
            prop_assert_eq!(&frames(&mut framer, &[&x]), &expected);
        }
    }
}
