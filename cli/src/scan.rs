//! `acolyte scan`: what a camera sees, read frame by frame and told once frames agree.

use crate::Outcome;
use crate::decoding_args::DecodingArgs;
use crate::interrupt::Interrupt;
use crate::model_args::ModelArgs;
use crate::read::{corners, quad};
use acolyte::camera::{
    Fed, FolderFrames, FrameFeed, FrameLayout, FrameSource, Keep, MjpegFrames, PacedFrames,
    RawFrames,
};
use acolyte::detect::PrintedText;
use acolyte::{Quad, Region, ScanEvent, ScanOptions, Scanner, Sighted, TextRecognizer};
use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longest wait for a frame before Ctrl-C and the time are looked at.
const STEP: Duration = Duration::from_millis(50);

/// Read what a camera sees, and write it down once frames agree
///
/// Frames that are blurred or move are left out; readings of the others are combined. A text on which frames agree goes
/// to standard output, one a line, once; what is read meanwhile is shown on standard error where that is a terminal.
/// Ctrl-C stops and delivers what was being read. A camera that is faster than reading loses old frames, never new ones.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  acolyte scan\n  acolyte scan --region 200,150,440,150,440,210,200,210 --json\n  \
                  acolyte scan frames/\n  ffmpeg -f v4l2 -i /dev/video0 -f mjpeg - | acolyte scan -\n  \
                  ffmpeg -i film.mp4 -f rawvideo -pix_fmt nv12 - | acolyte scan - --raw 1280x720 --pixels nv12"
)]
pub struct Args {
    /// A camera's file, a folder of images in the order of their names, or - for frames on standard input
    #[arg(default_value = "/dev/video0", value_name = "CAMERA|FOLDER|-")]
    input: PathBuf,
    /// Standard input holds raw frames of this size, not JPEG images (MJPEG)
    #[arg(long, value_name = "WIDTHxHEIGHT", value_parser = size)]
    raw: Option<(usize, usize)>,
    /// What the bytes of raw frames are: gray, rgb, bgr, rgba, bgra, yuyv, nv12, nv21, i420
    #[arg(long, value_name = "LAYOUT", default_value = "rgb", requires = "raw")]
    pixels: FrameLayout,
    /// Read this part of every frame: its corners in pixels, clockwise from the top left of the text
    #[arg(long, value_name = "X1,Y1,..,X4,Y4", value_parser = quad, allow_hyphen_values = true)]
    region: Option<Quad>,
    /// Find the words of each frame (printed text on plain ground) and follow each
    #[arg(long, conflicts_with = "region")]
    find: bool,
    /// Read at most so many frames a second, always the newest; 0 sets no limit
    #[arg(
        long,
        value_name = "N",
        default_value_t = 10.0,
        allow_negative_numbers = true
    )]
    rate: f64,
    /// Read every frame, and let the input wait: what is done with a folder without --fps
    #[arg(long)]
    every_frame: bool,
    /// Play a folder, or standard input, as a camera with so many frames a second
    #[arg(
        long,
        value_name = "N",
        conflicts_with = "every_frame",
        allow_negative_numbers = true
    )]
    fps: Option<f64>,
    /// Least sharpness: variance of the Laplacian, in squared levels of 255; 0 reads blurred frames too
    #[arg(long, value_name = "V", default_value_t = ScanOptions::default().sharpness)]
    sharpness: f32,
    /// Largest mean change between frames, in levels of 255; `inf` reads moving pictures too
    #[arg(long, value_name = "LEVELS", default_value_t = ScanOptions::default().motion)]
    motion: f32,
    /// Frames that must agree on a text
    #[arg(long, value_name = "N", default_value_t = ScanOptions::default().agree)]
    agree: usize,
    /// Confidence, all frames together, from which a text is told
    #[arg(long, value_name = "P", default_value_t = ScanOptions::default().confidence)]
    confidence: f32,
    /// Stop after so many seconds
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<f64>,
    /// One JSON object for each event: tentative, settled, left; times in seconds, places in pixels
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    decoding: DecodingArgs,
}

fn size(text: &str) -> Result<(usize, usize), String> {
    let wrong = || "expected WIDTHxHEIGHT, as 640x480".to_owned();
    let (width, height) = text.split_once('x').ok_or_else(wrong)?;
    match (width.parse(), height.parse()) {
        (Ok(width), Ok(height)) => Ok((width, height)),
        _ => Err(wrong()),
    }
}

/// Runs the command.
pub fn run(args: &Args, out: &mut dyn Write, err: &mut dyn Write) -> Result<Outcome> {
    let deadline = args.seconds.map(Duration::try_from_secs_f64).transpose()?;
    let (path, model) = args.model.open_for(&crate::models::SCENE)?;
    let recognizer = TextRecognizer::new(model).map_err(|e| e.with_path(&path))?;
    let region = match (args.region, args.find) {
        (Some(quad), _) => Region::Quad(quad),
        (None, true) => Region::Found(Arc::new(PrintedText)),
        (None, false) => Region::Whole,
    };
    let options = ScanOptions::default()
        .with_region(region)
        .with_sharpness(args.sharpness)
        .with_motion(args.motion)
        .with_agree(args.agree)
        .with_confidence(args.confidence);
    let mut scanner = Scanner::new(&recognizer, &args.decoding.decoding()?, options)?;
    let mut feed = feed(args)?;
    let stop = Interrupt::listen()?;
    let printer = Printer::new(args.json);
    let mut outcome = Outcome::Done;
    let started = Instant::now();
    let ended = loop {
        if stop.asked() || deadline.is_some_and(|most| started.elapsed() >= most) {
            break Ok(());
        }
        let fed = feed.next(STEP);
        if let Some(error) = feed.damage() {
            outcome = Outcome::SomeFailed;
            printer.note(err, &format!("a frame could not be read: {error}"))?;
        }
        match fed {
            Ok(Fed::Frame { frame, at, .. }) => {
                if let Err(error) = scanner.see(&frame.view()?, at) {
                    break Err(error);
                }
                while let Some(event) = scanner.poll() {
                    printer.event(&event, out, err)?;
                }
            }
            Ok(Fed::Ended) => break Ok(()),
            Ok(_) => {}
            // What was read until the camera failed is still delivered.
            Err(error) => break Err(error),
        }
    };
    let (stats, fed) = (scanner.stats(), feed.stats());
    for event in scanner.finish() {
        printer.last(&event, out)?;
    }
    printer.bar.finish_and_clear();
    writeln!(
        err,
        "acolyte: {} frames: {} dropped for newer ones, {} damaged, {} moving, {} blurred; {} crops read",
        fed.frames, fed.dropped, fed.damaged, stats.moving, stats.blurred, stats.crops
    )?;
    ended?;
    Ok(outcome)
}

/// The frames that the arguments mean.
fn feed(args: &Args) -> Result<FrameFeed> {
    let folder = args.input.is_dir();
    let source: Box<dyn FrameSource> = match &args.input {
        input if input == Path::new("-") => match args.raw {
            Some((width, height)) => Box::new(RawFrames::new(
                std::io::stdin(),
                width,
                height,
                args.pixels,
            )?),
            None => Box::new(MjpegFrames::new(std::io::stdin())),
        },
        _ if args.raw.is_some() => {
            bail!("--raw says what standard input holds: name - as the input")
        }
        input if folder => Box::new(FolderFrames::open(input)?),
        input => camera(input)?,
    };
    let source = match args.fps {
        Some(fps) => Box::new(PacedFrames::new(source, fps)?),
        None => source,
    };
    let all = args.every_frame || (folder && args.fps.is_none());
    let (keep, rate) = match all {
        true => (Keep::All, f64::INFINITY),
        false if args.rate == 0.0 => (Keep::Newest, f64::INFINITY),
        false => (Keep::Newest, args.rate),
    };
    FrameFeed::start(source, keep, rate).context("no frames")
}

#[cfg(all(feature = "camera-v4l", target_os = "linux"))]
fn camera(device: &Path) -> Result<Box<dyn FrameSource>> {
    let options = acolyte::camera::CameraOptions {
        device: device.to_owned(),
        ..Default::default()
    };
    Ok(Box::new(acolyte::camera::V4lCamera::open(&options)?))
}

#[cfg(not(all(feature = "camera-v4l", target_os = "linux")))]
fn camera(device: &Path) -> Result<Box<dyn FrameSource>> {
    bail!(
        "{} is no folder, and this build has no camera: on Linux, build it with `cargo build --release -p acolyte-cli \
         --features camera-v4l`; anywhere, pipe a camera's frames in: `ffmpeg .. -f mjpeg - | acolyte scan -`",
        device.display()
    )
}

/// An event on a line of its own.
#[derive(Debug, Serialize)]
struct Line<'a> {
    event: &'static str,
    crop: u64,
    text: &'a str,
    confidence: f32,
    readings: usize,
    settled: bool,
    time: f64,
    place: Vec<f32>,
    words: Vec<Word<'a>>,
}

#[derive(Debug, Serialize)]
struct Word<'a> {
    text: &'a str,
    confidence: f32,
    quad: Vec<f32>,
}

impl<'a> Line<'a> {
    fn new(event: &'static str, sighted: &'a Sighted) -> Self {
        let words = sighted.reading.words.iter().map(|word| Word {
            text: &word.text,
            confidence: word.confidence,
            quad: corners(&word.span),
        });
        Self {
            event,
            crop: sighted.crop,
            text: &sighted.reading.text,
            confidence: sighted.confidence,
            readings: sighted.readings,
            settled: sighted.settled,
            time: (sighted.at.as_secs_f64() * 1000.0).round() / 1000.0,
            place: corners(&sighted.place),
            words: words.collect(),
        }
    }
}

/// Writes events as they come.
struct Printer {
    json: bool,
    bar: ProgressBar,
}

impl Printer {
    fn new(json: bool) -> Self {
        let bar = match std::io::stderr().is_terminal() {
            true => ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(20)),
            false => ProgressBar::hidden(),
        };
        if let Ok(style) = ProgressStyle::with_template("{wide_msg}") {
            bar.set_style(style);
        }
        Self { json, bar }
    }

    fn event(&self, event: &ScanEvent, out: &mut dyn Write, err: &mut dyn Write) -> Result<()> {
        if self.json {
            return self.json(event, out);
        }
        match event {
            ScanEvent::Tentative(sighted) => {
                let share = (100.0 * sighted.confidence).round();
                self.bar
                    .set_message(format!("{} ({share} %)", sighted.reading.text));
                Ok(())
            }
            ScanEvent::Settled(sighted) => {
                self.bar.set_message("");
                self.line(out, &sighted.reading.text)
            }
            ScanEvent::Left(sighted) if !sighted.settled => {
                let share = (100.0 * sighted.confidence).round();
                self.note(
                    err,
                    &format!(
                        "gone before it was sure: {:?} ({share} %)",
                        sighted.reading.text
                    ),
                )
            }
            _ => Ok(()),
        }
    }

    /// At the end: what frames had not agreed on yet is delivered as well.
    fn last(&self, event: &ScanEvent, out: &mut dyn Write) -> Result<()> {
        match event {
            _ if self.json => self.json(event, out),
            ScanEvent::Settled(sighted) => self.line(out, &sighted.reading.text),
            ScanEvent::Left(sighted) if !sighted.settled => self.line(out, &sighted.reading.text),
            _ => Ok(()),
        }
    }

    fn json(&self, event: &ScanEvent, out: &mut dyn Write) -> Result<()> {
        let line = match event {
            ScanEvent::Tentative(sighted) => Line::new("tentative", sighted),
            ScanEvent::Settled(sighted) => Line::new("settled", sighted),
            ScanEvent::Left(sighted) => Line::new("left", sighted),
            _ => return Ok(()),
        };
        self.line(out, &serde_json::to_string(&line)?)
    }

    fn line(&self, out: &mut dyn Write, text: &str) -> Result<()> {
        self.bar.suspend(|| {
            writeln!(out, "{text}")?;
            out.flush()
        })?;
        Ok(())
    }

    fn note(&self, err: &mut dyn Write, text: &str) -> Result<()> {
        self.line(err, &format!("acolyte: {text}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        assert_eq!(size("640x480"), Ok((640, 480)));
        for wrong in ["640", "640x", "x480", "a x b", "-1x4"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_file_that_is_no_folder_and_raw_frames_of_no_pipe_are_refused() {
        use clap::Parser;
        #[derive(Debug, Parser)]
        struct Parsed {
            #[command(flatten)]
            args: Args,
        }
        let refused = |arguments: &[&str]| {
            let parsed = Parsed::try_parse_from([&["scan"], arguments].concat()).unwrap();
            format!("{:#}", feed(&parsed.args).unwrap_err())
        };
        assert!(refused(&["/dev/null"]).contains("/dev/null"));
        assert!(refused(&["/dev/null", "--raw", "4x4"]).contains("standard input"));
        assert!(refused(&["-", "--rate", "-1"]).contains("no frames"));
        assert!(refused(&["-", "--raw", "0x4"]).contains("0x4"));
    }
}
