//! Where the usual corpora keep recordings and transcripts.
//!
//! | layout | transcripts | recordings | speaker |
//! |---|---|---|---|
//! | folder | `NAME.txt` beside the recording | `NAME.wav` (or flac, ogg, mp3), at any depth | the folder, below the top |
//! | LibriSpeech | `S-C.trans.txt`, lines `S-C-NNNN TEXT` | `S-C-NNNN.flac` beside it | S |
//! | LJSpeech | `metadata.csv`, lines `ID\|RAW\|NORMALIZED` | `wavs/ID.wav` | one |
//! | Common Voice | `train.tsv` and `dev.tsv`, else `validated.tsv` | `clips/` | `client_id` |
//! | Kaldi | `text`, with `utt2spk` and `segments` where there are | `wav.scp`, files only | `utt2spk` |

use super::report::{Problem, ProblemKind};
use crate::data::manifest::{for_each_line, line_error};
use crate::error::{Error, ErrorKind, Result};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

/// Extensions of recordings, in the order of preference.
const AUDIO: [&str; 4] = ["wav", "flac", "ogg", "mp3"];
/// How deep folders are searched.
const MAX_DEPTH: usize = 16;
/// The largest transcript file of the folder layout, in bytes.
const MAX_TEXT_BYTES: u64 = 1 << 20;

/// How a corpus is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Layout {
    /// Recordings with a text file of the same name beside each.
    Folder,
    /// LibriSpeech's.
    LibriSpeech,
    /// LJSpeech's.
    LjSpeech,
    /// Common Voice's.
    CommonVoice,
    /// A Kaldi data folder.
    Kaldi,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Folder => "folder",
            Self::LibriSpeech => "LibriSpeech",
            Self::LjSpeech => "LJSpeech",
            Self::CommonVoice => "Common Voice",
            Self::Kaldi => "Kaldi",
        })
    }
}

impl std::str::FromStr for Layout {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "folder" => Ok(Self::Folder),
            "librispeech" => Ok(Self::LibriSpeech),
            "ljspeech" => Ok(Self::LjSpeech),
            "common-voice" => Ok(Self::CommonVoice),
            "kaldi" => Ok(Self::Kaldi),
            _ => Err(Error::new(
                ErrorKind::Data,
                format!(
                    "layout {text:?}; expected folder, librispeech, ljspeech, common-voice or kaldi"
                ),
            )),
        }
    }
}

/// A recording, or a part of one, with its transcript as written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    pub(super) audio: PathBuf,
    /// From and to, in seconds.
    pub(super) part: Option<[f64; 2]>,
    pub(super) text: String,
    pub(super) speaker: Option<String>,
    /// The corpus itself puts it into its dev set.
    pub(super) official_dev: bool,
}

impl Layout {
    /// Tells the layout from the files that are there.
    ///
    /// # Errors
    /// `Io` if the folder cannot be read, `Data` if it fits no layout.
    pub fn detect(folder: &Path) -> Result<Self> {
        let has = |name: &str| folder.join(name).is_file();
        if has("wav.scp") && has("text") {
            return Ok(Self::Kaldi);
        }
        if has("metadata.csv") && folder.join("wavs").is_dir() {
            return Ok(Self::LjSpeech);
        }
        if folder.join("clips").is_dir() && (has("validated.tsv") || has("train.tsv")) {
            return Ok(Self::CommonVoice);
        }
        let files = walk(folder)?;
        if files.iter().any(|path| is_trans(path)) {
            return Ok(Self::LibriSpeech);
        }
        if files
            .iter()
            .any(|path| audio_rank(path).is_some() && path.with_extension("txt").is_file())
        {
            return Ok(Self::Folder);
        }
        Err(Error::new(
            ErrorKind::Data,
            format!(
                "{} files, but no recording with a .txt beside it, *.trans.txt, metadata.csv, *.tsv with clips/ or \
                 wav.scp; give the layout, or the folder one level up or down",
                files.len()
            ),
        )
        .with_path(folder))
    }
}

/// All pairs of a corpus, in a fixed order; what lacks its half goes to `problems`.
pub(super) fn find(
    layout: Layout,
    folder: &Path,
    problems: &mut Vec<Problem>,
) -> Result<Vec<Found>> {
    match layout {
        Layout::Folder => find_folder(folder, problems),
        Layout::LibriSpeech => find_librispeech(folder, problems),
        Layout::LjSpeech => find_ljspeech(folder, problems),
        Layout::CommonVoice => find_common_voice(folder, problems),
        Layout::Kaldi => find_kaldi(folder, problems),
    }
}

/// All files below `folder`, sorted; links to folders are not followed.
fn walk(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(|e| Error::io(&folder, e))? {
            let entry = entry.map_err(|e| Error::io(&folder, e))?;
            let kind = entry.file_type().map_err(|e| Error::io(entry.path(), e))?;
            if !kind.is_dir() {
                files.push(entry.path());
            } else if depth < MAX_DEPTH {
                folders.push((entry.path(), depth + 1));
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Place of a file's extension among the audio formats, none for other files.
fn audio_rank(path: &Path) -> Option<usize> {
    let extension = path.extension()?.to_str()?;
    AUDIO
        .iter()
        .position(|known| extension.eq_ignore_ascii_case(known))
}

/// The recording `stem` with whichever audio extension is there; `stem` itself may contain dots.
fn recording(stem: &Path) -> Option<PathBuf> {
    AUDIO.iter().find_map(|extension| {
        let mut name = stem.as_os_str().to_owned();
        name.push(".");
        name.push(extension);
        Some(PathBuf::from(name)).filter(|path| path.is_file())
    })
}

fn is_trans(path: &Path) -> bool {
    path.file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|name| name.ends_with(".trans.txt"))
}

/// Calls `visit` with the number and text of each line that is not blank, without its line end.
fn lines(path: &Path, mut visit: impl FnMut(usize, &str) -> Result<()>) -> Result<()> {
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    for_each_line(path, BufReader::new(file), |line, text| {
        let text = text.trim_end_matches(['\n', '\r']);
        if text.trim().is_empty() {
            return Ok(());
        }
        visit(line, text)
    })
}

fn at(path: &Path, line: usize, kind: ProblemKind, message: impl Into<String>) -> Problem {
    Problem {
        path: path.to_owned(),
        line: Some(line),
        kind,
        message: message.into(),
    }
}

fn find_folder(folder: &Path, problems: &mut Vec<Problem>) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for audio in walk(folder)?
        .into_iter()
        .filter(|path| audio_rank(path).is_some())
    {
        let transcript = audio.with_extension("txt");
        let text = match read_text(&transcript) {
            Ok(text) => text,
            Err(message) => {
                problems.push(Problem {
                    path: audio,
                    line: None,
                    kind: ProblemKind::NoText,
                    message,
                });
                continue;
            }
        };
        let speaker = audio
            .parent()
            .filter(|parent| *parent != folder)
            .and_then(|parent| parent.strip_prefix(folder).ok())
            .map(|parent| parent.to_string_lossy().into_owned());
        found.push(Found {
            audio,
            part: None,
            text,
            speaker,
            official_dev: false,
        });
    }
    Ok(found)
}

fn read_text(path: &Path) -> Result<String, String> {
    let read = || -> std::io::Result<String> {
        let mut text = String::new();
        File::open(path)?
            .take(MAX_TEXT_BYTES + 1)
            .read_to_string(&mut text)?;
        Ok(text)
    };
    let text = read().map_err(|e| format!("{}: {e}", path.display()))?;
    if text.len() as u64 > MAX_TEXT_BYTES {
        return Err(format!(
            "{}: longer than {MAX_TEXT_BYTES} bytes",
            path.display()
        ));
    }
    Ok(text.trim_start_matches('\u{feff}').to_owned())
}

fn find_librispeech(folder: &Path, problems: &mut Vec<Problem>) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for index in walk(folder)?.iter().filter(|path| is_trans(path)) {
        lines(index, |line, text| {
            let (id, text) = text.split_once([' ', '\t']).unwrap_or((text, ""));
            match recording(&index.with_file_name(id)) {
                Some(audio) => found.push(Found {
                    audio,
                    part: None,
                    text: text.to_owned(),
                    speaker: id.split('-').next().map(str::to_owned),
                    official_dev: false,
                }),
                None => problems.push(at(index, line, ProblemKind::NoAudio, id)),
            }
            Ok(())
        })?;
    }
    Ok(found)
}

fn find_ljspeech(folder: &Path, problems: &mut Vec<Problem>) -> Result<Vec<Found>> {
    let index = folder.join("metadata.csv");
    let mut found = Vec::new();
    lines(&index, |line, text| {
        let fields: Vec<&str> = text.split('|').collect();
        let [id, rest @ ..] = &fields[..] else {
            return Ok(());
        };
        // The last field is the reading with numbers and abbreviations spelled out.
        let Some(text) = rest.last() else {
            return Err(line_error(
                &index,
                line,
                "no `|`; expected ID|RAW|NORMALIZED",
            ));
        };
        match recording(&folder.join("wavs").join(id)) {
            Some(audio) => found.push(Found {
                audio,
                part: None,
                text: (*text).to_owned(),
                speaker: Some("ljspeech".to_owned()),
                official_dev: false,
            }),
            None => problems.push(at(&index, line, ProblemKind::NoAudio, *id)),
        }
        Ok(())
    })?;
    Ok(found)
}

fn find_common_voice(folder: &Path, problems: &mut Vec<Problem>) -> Result<Vec<Found>> {
    let official = ["train.tsv", "dev.tsv"]
        .iter()
        .all(|name| folder.join(name).is_file());
    let indices: &[(&str, bool)] = if official {
        &[("train.tsv", false), ("dev.tsv", true)]
    } else if folder.join("validated.tsv").is_file() {
        &[("validated.tsv", false)]
    } else {
        &[("train.tsv", false)]
    };
    let mut found = Vec::new();
    for (name, official_dev) in indices {
        let index = folder.join(name);
        let mut columns: Option<[usize; 3]> = None;
        lines(&index, |line, text| {
            let fields: Vec<&str> = text.split('\t').collect();
            let Some([path, sentence, client]) = columns else {
                let column = |name: &str| {
                    fields
                        .iter()
                        .position(|field| *field == name)
                        .ok_or_else(|| {
                            line_error(
                                &index,
                                line,
                                format_args!("no column `{name}` in the header"),
                            )
                        })
                };
                columns = Some([column("path")?, column("sentence")?, column("client_id")?]);
                return Ok(());
            };
            let (Some(path), Some(sentence)) = (fields.get(path), fields.get(sentence)) else {
                return Err(line_error(
                    &index,
                    line,
                    "fewer fields than the header names",
                ));
            };
            let clip = folder.join("clips").join(path);
            // Older releases leave the extension out.
            let audio = Some(clip.clone())
                .filter(|clip| clip.is_file())
                .or_else(|| recording(&clip));
            match audio {
                Some(audio) => found.push(Found {
                    audio,
                    part: None,
                    text: (*sentence).to_owned(),
                    speaker: fields
                        .get(client)
                        .filter(|client| !client.is_empty())
                        .map(|client| (*client).to_owned()),
                    official_dev: *official_dev,
                }),
                None => problems.push(at(&index, line, ProblemKind::NoAudio, *path)),
            }
            Ok(())
        })?;
    }
    Ok(found)
}

/// A Kaldi table: the first word of each line, and the rest.
fn table(path: &Path) -> Result<BTreeMap<String, (usize, String)>> {
    let mut rows = BTreeMap::new();
    lines(path, |line, text| {
        let text = text.trim();
        let (key, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        if rows
            .insert(key.to_owned(), (line, rest.trim().to_owned()))
            .is_some()
        {
            return Err(line_error(
                path,
                line,
                format_args!("{key:?} is there twice"),
            ));
        }
        Ok(())
    })?;
    Ok(rows)
}

fn optional_table(path: &Path) -> Result<BTreeMap<String, (usize, String)>> {
    if path.is_file() {
        table(path)
    } else {
        Ok(BTreeMap::new())
    }
}

fn find_kaldi(folder: &Path, problems: &mut Vec<Problem>) -> Result<Vec<Found>> {
    let scp = folder.join("wav.scp");
    let texts = folder.join("text");
    let speakers = optional_table(&folder.join("utt2spk"))?;
    let segments_path = folder.join("segments");
    let segments = optional_table(&segments_path)?;
    let mut recordings = HashMap::new();
    for (id, (line, place)) in table(&scp)? {
        if place.ends_with('|') || place.starts_with('|') {
            problems.push(at(&scp, line, ProblemKind::Command, place));
        } else {
            recordings.insert(id, folder.join(place));
        }
    }
    let mut found = Vec::new();
    for (id, (line, text)) in table(&texts)? {
        let (recording, part) = match segments.get(&id) {
            None => (id.clone(), None),
            Some((line, segment)) => {
                let fields: Vec<&str> = segment.split_whitespace().collect();
                let parsed = match fields[..] {
                    [recording, start, end, ..] => start
                        .parse::<f64>()
                        .ok()
                        .zip(end.parse::<f64>().ok())
                        .filter(|(start, end)| 0.0 <= *start && start < end && end.is_finite())
                        .map(|(start, end)| (recording.to_owned(), Some([start, end]))),
                    _ => None,
                };
                parsed.ok_or_else(|| {
                    line_error(
                        &segments_path,
                        *line,
                        "expected UTTERANCE RECORDING START END in seconds",
                    )
                })?
            }
        };
        match recordings.get(&recording).filter(|path| path.is_file()) {
            Some(audio) => found.push(Found {
                audio: audio.clone(),
                part,
                text,
                speaker: speakers.get(&id).map(|(_, speaker)| speaker.clone()),
                official_dev: false,
            }),
            None => problems.push(at(&texts, line, ProblemKind::NoAudio, id)),
        }
    }
    Ok(found)
}
