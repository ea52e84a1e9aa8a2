//! Decoded audio in memory: mono, 16-bit, at the feature rate.
//!
//! Everything is decoded once at the start, in parallel: that yields the true lengths, finds unreadable files
//! before training does, and fills a cache of bounded size. Which clips are cached follows from their order and
//! declared lengths alone, never from timing; the others are decoded again whenever they are needed.

use super::rows::Utterance;
use crate::error::{Error, ErrorKind, Result};
use acolyte::audio::Audio;
use rayon::prelude::*;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How far a long job has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Items done.
    pub done: usize,
    /// Items in all.
    pub total: usize,
}

/// Called from several threads as a long job goes on.
pub type OnProgress<'a> = &'a (dyn Fn(Progress) + Sync);

/// Where a clip is, how long it is, and its samples if they are cached.
#[derive(Debug)]
struct Clip {
    source: Source,
    length: usize,
    samples: Option<Arc<[i16]>>,
}

/// A file or a part of it.
#[derive(Debug, Clone)]
struct Source {
    path: Arc<Path>,
    part: Option<[f64; 2]>,
}

/// The audio of one set of utterances.
#[derive(Debug)]
pub struct AudioStore {
    rate: u32,
    clips: Vec<Clip>,
}

/// Bytes that caches may still take; shared by the sets of a run.
#[derive(Debug)]
pub struct CacheBudget {
    bytes: usize,
}

impl CacheBudget {
    /// A budget of `mib` MiB.
    pub fn from_mib(mib: usize) -> Self {
        Self {
            bytes: mib.saturating_mul(1 << 20),
        }
    }

    /// Whether a clip of `seconds` fits; if so, its share is taken.
    fn take(&mut self, seconds: f64, rate: u32) -> bool {
        // A little more than declared, because durations are rounded; a clip that turns out longer is not cached.
        let bytes = (declared_samples(seconds, rate) * size_of::<i16>()) + 64;
        let fits = bytes <= self.bytes;
        if fits {
            self.bytes -= bytes;
        }
        fits
    }
}

/// The most samples a clip of this declared length is cached with.
fn declared_samples(seconds: f64, rate: u32) -> usize {
    ((seconds + 0.05) * f64::from(rate)) as usize
}

impl AudioStore {
    /// Decodes the audio of `utterances` at `rate` samples per second.
    ///
    /// The second value lists the utterances whose audio cannot be used, by index, each with the error that
    /// names its file; their clips are empty.
    pub fn decode(
        utterances: &[Utterance],
        rate: u32,
        budget: &mut CacheBudget,
        progress: OnProgress<'_>,
    ) -> (Self, Vec<(usize, Error)>) {
        let kept: Vec<(&Utterance, bool)> = utterances
            .iter()
            .map(|u| (u, budget.take(u.duration, rate)))
            .collect();
        let done = AtomicUsize::new(0);
        let total = utterances.len();
        // Rows that are parts of one recording usually follow each other; it is then decoded once.
        let recordings: Vec<&[(&Utterance, bool)]> =
            kept.chunk_by(|a, b| a.0.audio == b.0.audio).collect();
        let decoded: Vec<Vec<(Clip, Option<Error>)>> = recordings
            .into_par_iter()
            .map(|rows| {
                let mut recording: Option<Vec<f32>> = None;
                let clips = rows
                    .iter()
                    .map(|(utterance, keep)| {
                        let source = Source::of(utterance);
                        let whole = recording.take().map_or_else(|| source.open(rate), Ok);
                        let cut = whole.and_then(|samples| {
                            let cut = source.cut(&samples, rate);
                            recording = Some(samples);
                            cut
                        });
                        let (samples, error) = match cut {
                            Ok(samples) => (samples, None),
                            Err(error) => (Vec::new(), Some(error)),
                        };
                        let keep =
                            *keep && samples.len() <= declared_samples(utterance.duration, rate);
                        let clip = Clip {
                            source,
                            length: samples.len(),
                            samples: keep.then(|| samples.into()),
                        };
                        (clip, error)
                    })
                    .collect();
                progress(Progress {
                    done: done.fetch_add(rows.len(), Ordering::Relaxed) + rows.len(),
                    total,
                });
                clips
            })
            .collect();
        let mut failed = Vec::new();
        let mut clips = Vec::with_capacity(total);
        for (index, (clip, error)) in decoded.into_iter().flatten().enumerate() {
            clips.push(clip);
            failed.extend(error.map(|error| (index, error)));
        }
        (Self { rate, clips }, failed)
    }

    /// The audio of `utterances` with the lengths that their manifest declares, nothing decoded yet.
    pub fn declared(utterances: &[Utterance], rate: u32) -> Self {
        let clips = utterances
            .iter()
            .map(|utterance| Clip {
                source: Source::of(utterance),
                length: (utterance.duration * f64::from(rate)).round() as usize,
                samples: None,
            })
            .collect();
        Self { rate, clips }
    }

    /// Number of clips.
    pub fn len(&self) -> usize {
        self.clips.len()
    }

    /// Whether there is no clip.
    pub fn is_empty(&self) -> bool {
        self.clips.is_empty()
    }

    /// Samples of a clip; 0 for an index out of range.
    pub fn length(&self, index: usize) -> usize {
        self.clips.get(index).map_or(0, |clip| clip.length)
    }

    /// Bytes of the cached samples.
    pub fn cached_bytes(&self) -> usize {
        self.clips
            .iter()
            .filter_map(|clip| clip.samples.as_ref())
            .map(|samples| size_of_val(&**samples))
            .sum()
    }

    /// A clip's samples, decoded again if they are not cached.
    ///
    /// # Errors
    /// `Runtime`, naming the file, if it can no longer be read; `Data` if its length has changed.
    pub fn samples(&self, index: usize) -> Result<Arc<[i16]>> {
        let clip = self.clips.get(index).ok_or_else(|| {
            Error::new(
                ErrorKind::Data,
                format!("clip {index} of {}", self.clips.len()),
            )
        })?;
        if let Some(samples) = &clip.samples {
            return Ok(samples.clone());
        }
        let samples = clip.source.decode(self.rate)?;
        if samples.len() != clip.length {
            return Err(Error::new(
                ErrorKind::Data,
                format!(
                    "the file changed during the run: {} samples, {} before",
                    samples.len(),
                    clip.length
                ),
            )
            .with_path(&clip.source.path));
        }
        Ok(samples.into())
    }

    /// Leaves out the clips at `indices`, which are sorted.
    pub(super) fn remove(&mut self, indices: &[usize]) {
        let mut index = 0;
        self.clips.retain(|_| {
            index += 1;
            indices.binary_search(&(index - 1)).is_err()
        });
    }
}

impl Source {
    fn of(utterance: &Utterance) -> Self {
        Self {
            path: utterance.audio.as_path().into(),
            part: utterance.offset.map(|at| [at, utterance.duration]),
        }
    }

    fn decode(&self, rate: u32) -> Result<Vec<i16>> {
        self.cut(&self.open(rate)?, rate)
    }

    fn open(&self, rate: u32) -> Result<Vec<f32>> {
        let open = || Audio::open(&*self.path)?.mono(rate);
        open().map_err(|e| Error::from(e).with_path(&self.path))
    }

    /// The part of a decoded recording, in 16 bits.
    fn cut(&self, samples: &[f32], rate: u32) -> Result<Vec<i16>> {
        let samples = match self.part {
            None => samples,
            Some([start, seconds]) => {
                let start = (start * f64::from(rate)).round() as usize;
                let end = start + (seconds * f64::from(rate)).round() as usize;
                // Rounded times may point a few samples beyond the end.
                let slack = (f64::from(rate) * 0.01) as usize;
                let end = if end <= samples.len() + slack {
                    end.min(samples.len())
                } else {
                    end
                };
                samples.get(start..end).ok_or_else(|| {
                    Error::new(
                        ErrorKind::Data,
                        format!(
                            "{} s of audio; the row asks for {seconds} s from {} s on",
                            samples.len() as f64 / f64::from(rate),
                            start as f64 / f64::from(rate)
                        ),
                    )
                    .with_path(&self.path)
                })?
            }
        };
        // A cast saturates, so that samples beyond [-1, 1] clip as they would in a 16-bit file.
        Ok(samples
            .iter()
            .map(|x| (x * 32_768.0).round() as i16)
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utterance(audio: &Path, seconds: f64, offset: Option<f64>) -> Utterance {
        Utterance {
            audio: audio.to_owned(),
            offset,
            duration: seconds,
            text: "a".to_owned(),
            targets: vec![1],
            speaker: None,
            line: 1,
        }
    }

    /// A ramp of 16-bit samples: sample i has the value i.
    fn write_ramp(path: &Path, samples: i16) {
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: 16_000,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut writer = hound::WavWriter::create(path, spec).unwrap();
        for sample in 0..samples {
            writer.write_sample(sample).unwrap();
        }
        writer.finalize().unwrap();
    }

    #[test]
    fn clips_are_the_same_cached_and_not_and_parts_are_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wav");
        write_ramp(&path, 16_000);
        let rows = [
            utterance(&path, 1.0, None),
            utterance(&path, 0.25, Some(0.5)),
            utterance(&path, 1.0, None),
        ];
        let seen = AtomicUsize::new(0);
        let run = |mib| {
            AudioStore::decode(&rows, 16_000, &mut CacheBudget { bytes: mib }, &|p| {
                assert_eq!(p.total, 3);
                seen.fetch_max(p.done, Ordering::Relaxed);
            })
        };
        let (cached, failed) = run(1 << 20);
        assert!(failed.is_empty());
        assert_eq!(seen.load(Ordering::Relaxed), 3);
        let (bounded, _) = run(50_000);
        assert_eq!(cached.cached_bytes(), 2 * (16_000 + 4_000 + 16_000));
        assert_eq!(bounded.cached_bytes(), 2 * (16_000 + 4_000));
        for index in 0..3 {
            assert_eq!(
                cached.samples(index).unwrap(),
                bounded.samples(index).unwrap()
            );
            assert_eq!(cached.length(index), cached.samples(index).unwrap().len());
        }
        assert_eq!(cached.samples(0).unwrap()[1_234], 1_234);
        assert_eq!(cached.samples(1).unwrap()[0], 8_000);
        assert!(cached.samples(3).is_err());
    }

    #[test]
    fn what_cannot_be_used_is_listed_with_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wav");
        write_ramp(&path, 1_600);
        let text = folder.path().join("text.wav");
        std::fs::write(&text, "not audio at all").unwrap();
        let rows = [
            utterance(&path, 0.1, None),
            utterance(&text, 1.0, None),
            utterance(&folder.path().join("none.wav"), 1.0, None),
            utterance(&path, 0.1, Some(0.05)),
        ];
        let (mut store, failed) =
            AudioStore::decode(&rows, 16_000, &mut CacheBudget::from_mib(1), &|_| ());
        let indices: Vec<usize> = failed.iter().map(|(index, _)| *index).collect();
        assert_eq!(indices, [1, 2, 3]);
        for (index, error) in &failed {
            let path = rows[*index].audio.display().to_string();
            assert!(error.to_string().contains(&path), "{error}");
        }
        store.remove(&indices);
        assert_eq!((store.len(), store.length(0)), (1, 1_600));
    }

    #[test]
    fn a_file_that_changes_during_the_run_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wav");
        write_ramp(&path, 1_600);
        let rows = [utterance(&path, 0.1, None)];
        let (store, _) = AudioStore::decode(&rows, 16_000, &mut CacheBudget::from_mib(0), &|_| ());
        assert_eq!(store.samples(0).unwrap().len(), 1_600);
        write_ramp(&path, 800);
        let error = store.samples(0).unwrap_err();
        assert!(error.to_string().contains("a.wav"), "{error}");
        assert_eq!(error.kind(), ErrorKind::Data);
    }
}
