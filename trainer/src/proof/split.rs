//! Speakers parted into training, checkpoint selection and test, written as manifests.

use super::file::Split;
use crate::data::manifest::{self, Entry, Row};
use crate::train::checkpoint::hex;
use crate::{Error, ErrorKind, Result};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The utterances of one fold.
#[derive(Debug, Clone, Default)]
pub struct Parts {
    /// Those that train.
    pub train: Vec<Entry>,
    /// Those that select the checkpoint: training speakers that do not train.
    pub dev: Vec<Entry>,
    /// Those that are tested.
    pub test: Vec<Entry>,
}

fn speaker(entry: &Entry) -> Result<&str> {
    entry.speaker.as_deref().ok_or_else(|| {
        Error::new(
            ErrorKind::Data,
            format!(
                "{}: no `speaker`, and speakers are what a proof parts",
                entry.audio.display()
            ),
        )
    })
}

/// Speakers in an order that has nothing to do with their names.
fn shuffled<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let unique: BTreeSet<&str> = names.into_iter().collect();
    let mut names: Vec<&str> = unique.into_iter().collect();
    names.sort_by_key(|name| hex(&Sha256::digest(name.as_bytes())));
    names
}

fn words(entry: &Entry) -> usize {
    entry.text.split_whitespace().count()
}

/// Each speaker's fold: the largest first, each into the fold with the fewest words so far.
fn balance(entries: &[Entry], folds: usize) -> Result<BTreeMap<String, usize>> {
    let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
    for entry in entries {
        *sizes.entry(speaker(entry)?).or_default() += words(entry);
    }
    let mut order = shuffled(sizes.keys().copied());
    order.sort_by_key(|name| std::cmp::Reverse(sizes[name]));
    let mut filled = vec![0; folds];
    let mut found = BTreeMap::new();
    for name in order {
        let fold = (0..folds).min_by_key(|&fold| filled[fold]).unwrap_or(0);
        filled[fold] += sizes[name];
        found.insert(name.to_owned(), fold);
    }
    Ok(found)
}

/// Moves the first `count` speakers of `train`, in shuffled order, out of it.
fn take_speakers(train: &mut Vec<Entry>, count: usize) -> Result<Vec<Entry>> {
    let names = train.iter().map(speaker).collect::<Result<Vec<_>>>()?;
    let taken: BTreeSet<String> = shuffled(names)
        .into_iter()
        .take(count)
        .map(str::to_owned)
        .collect();
    let (out, rest) = std::mem::take(train)
        .into_iter()
        .partition(|entry| entry.speaker.as_ref().is_some_and(|s| taken.contains(s)));
    *train = rest;
    Ok(out)
}

/// The parts of fold `fold`; manifests lie in `data`.
///
/// # Errors
/// What reading manifests reports; [`ErrorKind::Data`] for rows without a speaker, and for a part that is empty.
pub fn part(split: &Split, data: &Path, fold: usize) -> Result<Parts> {
    let read = |path: &Path| manifest::read(data.join(path));
    let mut parts = Parts::default();
    let held_out = match split {
        Split::Folds {
            pool,
            folds,
            held_out,
        } => {
            let mut all = Vec::new();
            for path in pool {
                all.extend(read(path)?);
            }
            let places = balance(&all, *folds)?;
            for entry in all {
                let own = places.get(speaker(&entry)?).copied();
                if own == Some(fold) {
                    parts.test.push(entry);
                } else {
                    parts.train.push(entry);
                }
            }
            *held_out
        }
        Split::Fixed {
            pool,
            test,
            test_part,
            held_out,
        } => {
            for path in test {
                parts.test.extend(read(path)?);
            }
            for path in pool {
                let mut own = read(path)?;
                for part in test_part.iter().filter(|part| &part.manifest == path) {
                    parts.test.extend(take_speakers(&mut own, part.speakers)?);
                }
                parts.train.extend(own);
            }
            *held_out
        }
    };
    parts.dev = take_speakers(&mut parts.train, held_out)?;
    let named = |entries: &[Entry]| -> Result<BTreeSet<String>> {
        entries.iter().map(|e| Ok(speaker(e)?.to_owned())).collect()
    };
    let tested = named(&parts.test)?;
    let shared = named(&parts.train)?
        .union(&named(&parts.dev)?)
        .find(|name| tested.contains(*name))
        .cloned();
    if let Some(name) = shared {
        return Err(Error::new(
            ErrorKind::Data,
            format!(
                "speaker {name} stands in training and test: the manifests name speakers alike"
            ),
        ));
    }
    for (what, entries) in [
        ("training", &parts.train),
        ("selection", &parts.dev),
        ("test", &parts.test),
    ] {
        if entries.is_empty() {
            return Err(Error::new(
                ErrorKind::Data,
                format!(
                    "fold {fold} leaves nothing for {what}: fewer folds, or fewer held-out speakers"
                ),
            ));
        }
    }
    Ok(parts)
}

/// Writes the parts as `train.jsonl`, `dev.jsonl` and `test.jsonl` into `folder`.
///
/// # Errors
/// [`ErrorKind::Io`].
pub fn write(parts: &Parts, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|error| Error::io(folder, error))?;
    for (name, entries) in [
        ("train", &parts.train),
        ("dev", &parts.dev),
        ("test", &parts.test),
    ] {
        let rows = entries
            .iter()
            .map(|entry| {
                let audio = std::path::absolute(&entry.audio)
                    .map_err(|error| Error::io(&entry.audio, error))?;
                Ok(Row {
                    audio_filepath: audio.display().to_string(),
                    duration: entry.duration,
                    offset: entry.offset,
                    text: entry.text.clone(),
                    speaker: entry.speaker.clone(),
                })
            })
            .collect::<Result<Vec<_>>>()?;
        manifest::write(folder.join(format!("{name}.jsonl")), &rows)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn pool() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let mut text = String::new();
        for index in 0..60 {
            let speaker = index % 11;
            text += &format!(
                "{{\"audio_filepath\": \"{index}.wav\", \"duration\": 1.0, \"text\": \"{}\", \"speaker\": \"s{speaker}\"}}\n",
                "word ".repeat(1 + index % 4)
            );
        }
        std::fs::write(folder.path().join("all.jsonl"), text).unwrap();
        folder
    }

    fn names(entries: &[Entry]) -> BTreeSet<&str> {
        entries.iter().map(|e| speaker(e).unwrap()).collect()
    }

    #[test]
    fn every_speaker_is_tested_once_and_never_trained_on_beside() {
        let folder = pool();
        let split = Split::Folds {
            pool: vec![PathBuf::from("all.jsonl")],
            folds: 4,
            held_out: 2,
        };
        let mut tested = Vec::new();
        let mut sizes = Vec::new();
        for fold in 0..4 {
            let parts = part(&split, folder.path(), fold).unwrap();
            assert_eq!(parts.train.len() + parts.dev.len() + parts.test.len(), 60);
            assert_eq!(names(&parts.dev).len(), 2);
            for (a, b) in [
                (&parts.train, &parts.dev),
                (&parts.train, &parts.test),
                (&parts.dev, &parts.test),
            ] {
                assert!(names(a).is_disjoint(&names(b)));
            }
            tested.extend(names(&parts.test).into_iter().map(str::to_owned));
            sizes.push(parts.test.iter().map(words).sum::<usize>());
            let out = folder.path().join("fold");
            write(&parts, &out).unwrap();
            let back = manifest::read(out.join("test.jsonl")).unwrap();
            assert_eq!(back.len(), parts.test.len());
            assert_eq!(
                back[0].audio,
                std::path::absolute(&parts.test[0].audio).unwrap()
            );
        }
        tested.sort();
        assert_eq!(tested.len(), 11);
        tested.dedup();
        assert_eq!(tested.len(), 11);
        let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
        assert!(most - least <= 25, "{sizes:?}");
    }

    #[test]
    fn a_fixed_test_part_takes_speakers_from_the_pool() {
        let folder = pool();
        let split = |held_out, speakers| Split::Fixed {
            pool: vec![PathBuf::from("all.jsonl")],
            test: Vec::new(),
            test_part: vec![super::super::file::TestPart {
                manifest: PathBuf::from("all.jsonl"),
                speakers,
            }],
            held_out,
        };
        let parts = part(&split(1, 3), folder.path(), 0).unwrap();
        assert_eq!((names(&parts.test).len(), names(&parts.dev).len()), (3, 1));
        assert_eq!(names(&parts.train).len(), 7);
        let error = part(&split(8, 3), folder.path(), 0).unwrap_err();
        assert!(
            error.to_string().contains("nothing for training"),
            "{error}"
        );
    }
}
