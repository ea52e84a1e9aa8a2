//! What a camera sees, as soon as frames agree on it.
//!
//! `cargo run --release -p acolyte-examples --features camera-v4l --bin live_camera MODEL` watches `/dev/video0` on Linux;
//! without the feature it reads a camera's frames as MJPEG from standard input, as
//! `ffmpeg -f avfoundation -i 0 -f mjpeg - | live_camera MODEL` pipes them.
#![allow(clippy::print_stdout)] // A program speaks to its user.

use acolyte::camera::{Fed, FrameFeed, FrameSource, Keep};
use acolyte::{Decoding, Library, ScanEvent, ScanOptions, Scanner, TextRecognizer};
use anyhow::{Context, Result};
use std::time::Duration;

#[cfg(all(feature = "camera-v4l", target_os = "linux"))]
fn camera() -> Result<impl FrameSource + 'static> {
    Ok(acolyte::camera::V4lCamera::open(&Default::default())?)
}

#[cfg(not(all(feature = "camera-v4l", target_os = "linux")))]
fn camera() -> Result<impl FrameSource + 'static> {
    Ok(acolyte::camera::MjpegFrames::new(std::io::stdin()))
}

fn main() -> Result<()> {
    let model = std::env::args()
        .nth(1)
        .context("name a model of scene text")?;
    let text = TextRecognizer::builder(&Library::find()?).open(model)?;
    let mut scanner = Scanner::new(&text, &Decoding::greedy(), ScanOptions::default())?;
    // The newest frame, ten times a second; what comes in between is dropped.
    let mut feed = FrameFeed::start(camera()?, Keep::Newest, 10.0)?;
    loop {
        match feed.next(Duration::from_secs(1))? {
            Fed::Frame { frame, at, .. } => scanner.see(&frame.view()?, at).map(|_| ())?,
            Fed::Ended => break,
            _ => {}
        }
        while let Some(event) = scanner.poll() {
            show(&event);
        }
    }
    scanner.finish().iter().for_each(show);
    Ok(())
}

fn show(event: &ScanEvent) {
    if let ScanEvent::Settled(sighted) = event {
        let text = &sighted.reading.text;
        println!("{text} ({:.0} %)", 100.0 * sighted.confidence);
    }
}
