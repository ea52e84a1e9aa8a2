//! `acolyte read`: images of words and lines to text, or a photo's words found and read.

use crate::Outcome;
use crate::decoding_args::DecodingArgs;
use crate::model_args::ModelArgs;
use acolyte::decode::Plan;
use acolyte::detect::{DbDetector, DbOptions, Detector, PrintedText, lines};
use acolyte::model::OrtOptions;
use acolyte::{Crop, Image, Library, NBest, Quad, TextRecognizer, Transcript};
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Read words and lines in images (PNG, JPEG, WebP)
///
/// Each image is one word or line, unless --find says that words are to be found in it. The text goes to standard
/// output, one line for each image, or for each line found. An image that cannot be read is reported, the others are
/// still read, and the exit code is 1.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  acolyte read word.png\n  acolyte read --json crops/*.jpg > read.jsonl\n  \
                        acolyte read --quad 120,40,310,52,308,96,118,84 photo.jpg\n  acolyte read --find page.png"
)]
pub struct Args {
    /// Image files
    #[arg(required = true, value_name = "IMAGE")]
    files: Vec<PathBuf>,
    /// One JSON object a line: path, text, confidence, chars with their places in pixels, elapsed
    #[arg(long)]
    json: bool,
    /// Read this part of every image: its corners in pixels, clockwise from the top left of the text
    #[arg(long, value_name = "X1,Y1,..,X4,Y4", value_parser = quad, allow_hyphen_values = true)]
    quad: Option<Quad>,
    /// Read all images together, lines of equal width in one run of the model; then elapsed is each image's share
    #[arg(long, conflicts_with = "find")]
    batch: bool,
    /// Find the words of each image and read them line by line
    #[arg(long, conflicts_with = "quad")]
    find: bool,
    /// Find words with this detector of the DB kind (ONNX) instead of the locator for printed text
    #[arg(long, value_name = "FILE", requires = "find")]
    detector: Option<PathBuf>,
    /// How that detector is fed and read, as JSON: longest, shortest, threshold, accept, unclip, mean, deviation
    #[arg(long, value_name = "FILE", requires = "detector")]
    detector_options: Option<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    decoding: DecodingArgs,
    /// Write the peak memory in bytes to standard error at the end
    #[arg(long, hide = true)]
    report_memory: bool,
}

/// Four corners from the command line.
pub fn quad(text: &str) -> Result<Quad, String> {
    let numbers: Vec<f32> = (text.split(','))
        .map(|number| number.trim().parse::<f32>())
        .collect::<Result<_, _>>()
        .map_err(|e| format!("{e}; expected eight numbers x1,y1,x2,y2,x3,y3,x4,y4"))?;
    match numbers.as_chunks::<2>() {
        (&[a, b, c, d], []) => {
            let quad = Quad {
                corners: [a, b, c, d],
            };
            quad.projection().map(|_| quad).map_err(|e| e.to_string())
        }
        _ => Err(format!("{} numbers, expected eight", numbers.len())),
    }
}

/// An image that was read.
#[derive(Debug, Serialize)]
struct Row<'a> {
    path: String,
    text: &'a str,
    confidence: f32,
    chars: Vec<Place<'a>>,
    elapsed: f64,
    model: &'a str,
    provider: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    alternatives: Vec<Alternative<'a>>,
}

/// A line that was found.
#[derive(Debug, Serialize)]
struct Found<'a> {
    path: String,
    line: usize,
    text: String,
    confidence: f32,
    words: Vec<Place<'a>>,
    elapsed: f64,
    model: &'a str,
    provider: &'a str,
}

/// A character or word with its corners in pixels: x1, y1 to x4, y4, clockwise from the top left.
#[derive(Debug, Serialize)]
struct Place<'a> {
    text: &'a str,
    confidence: f32,
    quad: Vec<f32>,
}

#[derive(Debug, Serialize)]
struct Alternative<'a> {
    text: &'a str,
    confidence: f32,
    score: f64,
}

#[derive(Debug, Serialize)]
struct Failure {
    path: String,
    error: String,
}

/// Runs the command.
pub fn run(args: &Args, out: &mut dyn Write, err: &mut dyn Write) -> Result<Outcome> {
    let (path, model) = args.model.open_for(&crate::models::SCENE)?;
    let report = model.provider().clone();
    if report.fell_back {
        writeln!(
            err,
            "acolyte: running on {}: {}",
            report.used, report.reason
        )?;
    }
    let recognizer = TextRecognizer::new(model).map_err(|e| e.with_path(&path))?;
    let detector: Option<Box<dyn Detector>> = match (&args.detector, args.find) {
        (Some(file), _) => {
            let options = OrtOptions::default()
                .with_threads(args.model.threads)
                .with_pool(1);
            let library = Library::find()?;
            let db = match &args.detector_options {
                Some(path) => {
                    let named = || path.display().to_string();
                    let text = std::fs::read_to_string(path).with_context(named)?;
                    serde_json::from_str(&text).with_context(named)?
                }
                None => DbOptions::default(),
            };
            Some(Box::new(DbDetector::open(&library, file, &options, db)?))
        }
        (None, true) => Some(Box::new(PrintedText)),
        (None, false) => None,
    };
    let model = path.display().to_string();
    let job = Job {
        plan: args.decoding.decoding()?.plan(recognizer.tokens())?,
        recognizer: &recognizer,
        detector: detector.as_deref(),
        quad: args.quad,
        json: args.json,
        with_path: args.files.len() > 1,
        model: &model,
        provider: report.used.name(),
    };
    let outcome = match args.batch {
        true => job.together(&args.files, out, err)?,
        false => job.one_by_one(&args.files, out, err)?,
    };
    if args.report_memory
        && let Some(bytes) = crate::bench::peak_memory()
    {
        writeln!(err, "peak memory {bytes}")?;
    }
    Ok(outcome)
}

/// What all images have in common.
struct Job<'a> {
    recognizer: &'a TextRecognizer,
    plan: Plan,
    detector: Option<&'a dyn Detector>,
    quad: Option<Quad>,
    json: bool,
    with_path: bool,
    model: &'a str,
    provider: &'a str,
}

impl Job<'_> {
    fn one_by_one(
        &self,
        files: &[PathBuf],
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<Outcome> {
        let mut outcome = Outcome::Done;
        for path in files {
            let started = Instant::now();
            let elapsed = || started.elapsed().as_secs_f64();
            let done = Image::open(path).and_then(|image| match self.detector {
                Some(detector) => self.find(path, &image, detector).map(Read::Lines),
                None => {
                    let crop = self.crop(&image);
                    let read = self.recognizer.recognize_with(crop, &self.plan);
                    read.map(Read::One).map_err(|e| e.with_path(path))
                }
            });
            match done {
                Ok(Read::One(read)) => self.write(path, &read, elapsed(), out)?,
                Ok(Read::Lines(lines)) => self.write_lines(path, &lines, elapsed(), out)?,
                Err(error) => {
                    outcome = Outcome::SomeFailed;
                    self.write_failure(path, &error, out, err)?;
                }
            }
        }
        out.flush()?;
        Ok(outcome)
    }

    /// All images in one batch; those that cannot be opened or read are reported in their place.
    fn together(
        &self,
        files: &[PathBuf],
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<Outcome> {
        let started = Instant::now();
        let images: Vec<acolyte::Result<Image>> = files.iter().map(Image::open).collect();
        let opened: Vec<&Image> = images.iter().flatten().collect();
        let crops: Vec<Crop<'_>> = opened.iter().map(|image| self.crop(image)).collect();
        let mut read = self
            .recognizer
            .recognize_batch(&crops, &self.plan)
            .into_iter();
        let share = started.elapsed().as_secs_f64() / files.len().max(1) as f64;
        let mut outcome = Outcome::Done;
        for (path, image) in files.iter().zip(&images) {
            let done = match image {
                Ok(_) => read.next().context("the batch lost an image")?,
                Err(error) => {
                    outcome = Outcome::SomeFailed;
                    self.write_failure(path, error, out, err)?;
                    continue;
                }
            };
            match done {
                Ok(read) => self.write(path, &read, share, out)?,
                Err(error) => {
                    outcome = Outcome::SomeFailed;
                    self.write_failure(path, &error.with_path(path), out, err)?;
                }
            }
        }
        ensure!(
            read.next().is_none(),
            "the batch gave more readings than images"
        );
        out.flush()?;
        Ok(outcome)
    }

    fn crop<'i>(&self, image: &'i Image) -> Crop<'i> {
        Crop {
            image: image.view(),
            quad: self.quad,
        }
    }

    /// The words of an image in reading order, read in one batch; words in which nothing is read are left out.
    fn find(
        &self,
        path: &Path,
        image: &Image,
        detector: &dyn Detector,
    ) -> acolyte::Result<Vec<Line>> {
        let found = detector
            .detect(&image.view())
            .map_err(|e| e.with_path(path))?;
        let found = lines(found);
        let crops: Vec<Crop<'_>> = (found.iter().flatten())
            .map(|&quad| Crop {
                image: image.view(),
                quad: Some(quad),
            })
            .collect();
        let mut read = self
            .recognizer
            .recognize_batch(&crops, &self.plan)
            .into_iter();
        let mut out = Vec::new();
        for line in &found {
            let mut words = Vec::new();
            for (&quad, reading) in line.iter().zip(&mut read) {
                let best = reading.map_err(|e| e.with_path(path))?.into_best();
                if !best.text.is_empty() {
                    words.push((quad, best));
                }
            }
            if !words.is_empty() {
                out.push(words);
            }
        }
        Ok(out)
    }

    fn write(
        &self,
        path: &Path,
        read: &NBest<Quad>,
        elapsed: f64,
        out: &mut dyn Write,
    ) -> Result<()> {
        let best = read.best();
        if !self.json {
            return self.write_text(path, &best.text, out);
        }
        let tokens = self.recognizer.tokens();
        let chars = best.tokens.iter().map(|token| Place {
            text: tokens.piece(token.id).unwrap_or_default(),
            confidence: token.confidence,
            quad: corners(&token.span),
        });
        let others = read.others().iter().map(|other| Alternative {
            text: &other.text,
            confidence: other.confidence,
            score: other.score,
        });
        let row = Row {
            path: path.display().to_string(),
            text: &best.text,
            confidence: best.confidence,
            chars: chars.collect(),
            elapsed,
            model: self.model,
            provider: self.provider,
            alternatives: others.collect(),
        };
        writeln!(out, "{}", serde_json::to_string(&row)?)?;
        Ok(())
    }

    fn write_lines(
        &self,
        path: &Path,
        lines: &[Line],
        elapsed: f64,
        out: &mut dyn Write,
    ) -> Result<()> {
        for (index, words) in lines.iter().enumerate() {
            let texts: Vec<&str> = words.iter().map(|(_, word)| word.text.as_str()).collect();
            let text = texts.join(" ");
            if !self.json {
                self.write_text(path, &text, out)?;
                continue;
            }
            let logs: f32 = words.iter().map(|(_, word)| word.confidence.ln()).sum();
            let row = Found {
                path: path.display().to_string(),
                line: index + 1,
                text,
                confidence: (logs / words.len() as f32).exp(),
                words: (words.iter())
                    .map(|(quad, word)| Place {
                        text: &word.text,
                        confidence: word.confidence,
                        quad: corners(quad),
                    })
                    .collect(),
                elapsed,
                model: self.model,
                provider: self.provider,
            };
            writeln!(out, "{}", serde_json::to_string(&row)?)?;
        }
        Ok(())
    }

    fn write_text(&self, path: &Path, text: &str, out: &mut dyn Write) -> Result<()> {
        match self.with_path {
            true => writeln!(out, "{}: {text}", path.display())?,
            false => writeln!(out, "{text}")?,
        }
        Ok(())
    }

    fn write_failure(
        &self,
        path: &Path,
        error: &acolyte::Error,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<()> {
        if self.json {
            let failure = Failure {
                path: path.display().to_string(),
                error: error.to_string(),
            };
            writeln!(out, "{}", serde_json::to_string(&failure)?)?;
        } else {
            writeln!(err, "acolyte: {error}")?;
        }
        Ok(())
    }
}

/// The words of a line, each where it was found and what it says.
type Line = Vec<(Quad, Transcript<Quad>)>;

enum Read {
    One(NBest<Quad>),
    Lines(Vec<Line>),
}

/// Corners one after another, rounded to hundredths of a pixel.
pub fn corners(quad: &Quad) -> Vec<f32> {
    let rounded = |&value: &f32| (value * 100.0).round() / 100.0;
    quad.corners.as_flattened().iter().map(rounded).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::spec;
    use acolyte::model::FakeModel;
    use acolyte::spec::{FrontEnd, InputLayout, LineSpec, Normalization, Task};
    use serde_json::Value;

    /// Four rows for four tokens: blank, space, `a`, `b`: the brightest row of every second column is read.
    fn recognizer() -> TextRecognizer {
        let front_end = FrontEnd::Line(LineSpec {
            height: 4,
            multiple: 4,
            min_width: 4,
            max_width: 64,
            normalization: Normalization::None,
            ..LineSpec::default()
        });
        let spec = spec(Task::SceneText, front_end, InputLayout::BCHT);
        TextRecognizer::new(FakeModel::new(spec).unwrap()).unwrap()
    }

    /// A picture of 4 rows that reads as `ab`.
    fn write_picture(path: &Path) {
        let mut pixels = vec![0; 3 * 4 * 16];
        for x in 0..16 {
            let row = [2, 0, 3, 0][x / 4];
            pixels[3 * (16 * row + x)..][..3].fill(255);
        }
        let image = Image::from_rgb(16, 4, pixels).unwrap();
        std::fs::write(path, image.to_png().unwrap()).unwrap();
    }

    fn read(
        files: &[PathBuf],
        json: bool,
        batch: bool,
        quad: Option<Quad>,
    ) -> (Outcome, String, String) {
        let recognizer = recognizer();
        let job = Job {
            plan: acolyte::Decoding::greedy()
                .plan(recognizer.tokens())
                .unwrap(),
            recognizer: &recognizer,
            detector: None,
            quad,
            json,
            with_path: files.len() > 1,
            model: "fake.onnx",
            provider: "cpu",
        };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let outcome = match batch {
            true => job.together(files, &mut out, &mut err).unwrap(),
            false => job.one_by_one(files, &mut out, &mut err).unwrap(),
        };
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (outcome, text(out), text(err))
    }

    #[test]
    fn rows_have_their_keys_and_bad_images_do_not_stop_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let paths =
            ["a.png", "bad.png", "missing.png", "b.png"].map(|name| folder.path().join(name));
        write_picture(&paths[0]);
        std::fs::write(&paths[1], "a text file").unwrap();
        write_picture(&paths[3]);
        for batch in [false, true] {
            let (outcome, out, err) = read(&paths, true, batch, None);
            assert_eq!((outcome, err.as_str()), (Outcome::SomeFailed, ""));
            let rows: Vec<Value> = out
                .lines()
                .map(|l| serde_json::from_str(l).unwrap())
                .collect();
            let keys = |row: &Value| Vec::from_iter(row.as_object().unwrap().keys().cloned());
            let good = [
                "chars",
                "confidence",
                "elapsed",
                "model",
                "path",
                "provider",
                "text",
            ];
            assert_eq!(keys(&rows[0]), good);
            assert_eq!(keys(&rows[1]), ["error", "path"]);
            assert_eq!(keys(&rows[2]), ["error", "path"]);
            for (row, path) in rows.iter().zip(&paths) {
                assert_eq!(row["path"], path.to_str().unwrap());
            }
            assert_eq!(
                (&rows[0]["text"], &rows[3]["text"]),
                (&"ab".into(), &"ab".into())
            );
            let place = rows[0]["chars"][1]["quad"].as_array().unwrap();
            assert_eq!(place.len(), 8);
            assert!(place[0].as_f64().unwrap() >= 4.0 && place[2].as_f64().unwrap() <= 16.0);
        }
        let (_, out, err) = read(&paths[..2], false, false, None);
        assert_eq!(out, format!("{}: ab\n", paths[0].display()));
        assert!(
            err.starts_with("acolyte: ") && err.contains("bad.png"),
            "{err}"
        );
    }

    #[test]
    fn a_quad_is_read_from_eight_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        write_picture(&path);
        let part = quad("8,0,16,0,16,4,8,4").unwrap();
        assert_eq!(read(&[path], false, false, Some(part)).1, "b\n");
        for (text, says) in [
            ("1,2,3", "3 numbers"),
            ("a,0,16,0,16,4,8,4", "eight numbers"),
            ("0,0,9,9,9,0,0,9", "crosses"),
            ("0,0,1,0,2,0,3,0", "no area"),
            ("nan,0,16,0,16,4,8,4", "finite"),
        ] {
            let error = quad(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
