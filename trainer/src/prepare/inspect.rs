//! One look at every recording: can it be decoded, is it new, loud, long enough for its text.
//!
//! Files are decoded in parallel at 16 kHz, each once, whatever the number of rows that are parts of it; the
//! verdicts are then given in the rows' order, so that of two equal recordings the first is kept.

use super::layouts::Found;
use super::{Accepted, PrepareOptions, Problem, ProblemKind};
use crate::data::store::{OnProgress, Progress};
use crate::data::text::frames_needed;
use acolyte::audio::Audio;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Rate at which recordings are looked at.
const RATE: u32 = 16_000;
/// From this magnitude on a sample counts as at full scale.
const FULL_SCALE: f32 = 0.999;
/// Samples at full scale in a row that make a clipped peak.
const CLIPPED_RUN: usize = 3;
/// Clipped peaks a second from which a recording is reported.
const CLIPPED_PER_SECOND: f64 = 1.0;

/// What one row's audio is like.
struct Look {
    seconds: f64,
    hash: [u8; 32],
    silent: bool,
    clipped: usize,
}

/// The rows whose audio can be used; all that is wrong goes to `problems`.
pub(super) fn inspect(
    rows: Vec<(Found, String)>,
    options: &PrepareOptions,
    problems: &mut Vec<Problem>,
    progress: OnProgress<'_>,
) -> Vec<Accepted> {
    let mut files: HashMap<&std::path::Path, Vec<usize>> = HashMap::new();
    for (index, (found, _)) in rows.iter().enumerate() {
        files.entry(found.audio.as_path()).or_default().push(index);
    }
    let done = AtomicUsize::new(0);
    let total = rows.len();
    let looks: HashMap<usize, Result<Look, String>> = files
        .into_par_iter()
        .flat_map_iter(|(path, indices)| {
            let audio = Audio::open(path)
                .and_then(|audio| audio.mono(RATE))
                .map_err(|e| e.to_string());
            let looks: Vec<_> = indices
                .into_iter()
                .map(|index| {
                    let look = match &audio {
                        Ok(samples) => look(samples, rows[index].0.part),
                        Err(message) => Err(message.clone()),
                    };
                    (index, look)
                })
                .collect();
            progress(Progress {
                done: done.fetch_add(looks.len(), Ordering::Relaxed) + looks.len(),
                total,
            });
            looks
        })
        .collect();

    let mut accepted = Vec::with_capacity(rows.len());
    let mut heard = HashSet::new();
    let mut said = HashSet::new();
    let mut looks = looks;
    for (index, (found, text)) in rows.into_iter().enumerate() {
        let mut report = |kind, message: String| problems.push(Problem::of(&found, kind, message));
        let look = match looks.remove(&index) {
            Some(Ok(look)) => look,
            Some(Err(message)) => {
                report(ProblemKind::Unreadable, message);
                continue;
            }
            None => continue,
        };
        if look.silent {
            report(ProblemKind::Silent, format!("{:.2} s", look.seconds));
            continue;
        }
        if !heard.insert(look.hash) {
            report(ProblemKind::DuplicateAudio, format!("{text:?}"));
            continue;
        }
        let characters: Vec<u32> = text.chars().map(u32::from).collect();
        let needed = frames_needed(&characters);
        let available = (look.seconds / options.output_frame) as usize;
        if needed > available {
            report(
                ProblemKind::Infeasible,
                format!("{needed} output frames needed, {available} there, for {text:?}"),
            );
            continue;
        }
        let length = (look.seconds * 1e3).round() as u64;
        if !said.insert((found.speaker.clone(), text.clone(), length)) {
            report(
                ProblemKind::SuspectedDuplicate,
                format!("{text:?}, {:.3} s", look.seconds),
            );
        }
        if look.clipped as f64 > CLIPPED_PER_SECOND * look.seconds {
            report(
                ProblemKind::Clipping,
                format!("{} clipped peaks in {:.2} s", look.clipped, look.seconds),
            );
        }
        accepted.push(Accepted {
            found,
            text,
            seconds: look.seconds,
        });
    }
    accepted
}

fn look(samples: &[f32], part: Option<[f64; 2]>) -> Result<Look, String> {
    let samples = match part {
        None => samples,
        Some([start, end]) => {
            let at = |seconds: f64| (seconds * f64::from(RATE)).round() as usize;
            samples.get(at(start)..at(end)).ok_or_else(|| {
                format!(
                    "{:.2} s of audio, asked for {start} to {end} s",
                    samples.len() as f64 / f64::from(RATE)
                )
            })?
        }
    };
    let mut hash = Sha256::new();
    let mut clipped = 0;
    let mut run = 0;
    let mut silent = true;
    for &sample in samples {
        let sixteen = (sample * 32_768.0).round() as i16;
        hash.update(sixteen.to_le_bytes());
        silent &= sixteen == 0;
        run = if sample.abs() >= FULL_SCALE {
            run + 1
        } else {
            0
        };
        clipped += usize::from(run == CLIPPED_RUN);
    }
    Ok(Look {
        seconds: samples.len() as f64 / f64::from(RATE),
        hash: hash.finalize().into(),
        silent,
        clipped,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_see_silence_clipping_and_parts() {
        let quiet: Vec<f32> = (0..16_000).map(|i| (i as f32 * 0.1).sin() * 0.5).collect();
        let loud: Vec<f32> = quiet.iter().map(|x| (x * 4.0).clamp(-1.0, 1.0)).collect();
        assert_eq!(look(&quiet, None).unwrap().clipped, 0);
        assert!(look(&loud, None).unwrap().clipped > 400);
        assert!(look(&[0.0; 100], None).unwrap().silent);
        assert!(look(&[], None).unwrap().silent);
        let part = look(&quiet, Some([0.25, 0.75])).unwrap();
        assert_eq!(part.seconds, 0.5);
        assert_eq!(part.hash, look(&quiet[4_000..12_000], None).unwrap().hash);
        for part in [[0.5, 1.5], [0.75, 0.25], [f64::MAX, f64::MAX]] {
            assert!(look(&quiet, Some(part)).is_err(), "{part:?}");
        }
    }
}
