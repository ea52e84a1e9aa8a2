//! A camera's frames to readings that hold: gates, tracking, and agreement across frames.
//!
//! Each frame that is sharp and held still is read: the whole of it, one quad, or what a detector finds. A crop is
//! followed from frame to frame by where it stands (overlap of at least 0.3 of the union), and its readings are combined
//! until enough of them agree. [`Scanner`] takes frames as they come and never waits; which frames it gets is decided
//! before, by a [`FrameFeed`](crate::camera::FrameFeed).

mod agreement;
mod gate;
mod options;

use crate::decode::Plan;
use crate::image::{ImageView, Quad};
use crate::recognizer::{Crop, TextRecognizer};
use crate::transcript::Transcript;
use crate::{Decoding, Error, ErrorKind, Result};
use agreement::Agreement;
use gate::Thumbnail;
use std::collections::VecDeque;
use std::time::Duration;

pub use options::{Region, ScanOptions};

/// Most crops that are followed at a time; of more, those found first are read.
const MOST_TRACKS: usize = 64;

/// An app that never polls gets an error, not all memory.
const MOST_EVENTS: usize = 1 << 16;

/// The least overlap of a crop with where it stood, over their union.
const SAME: f32 = 0.3;

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Seen {
    /// So many crops of it were read; 0 where a detector found none, or none that was sharp.
    Read(usize),
    /// Not read: too blurred.
    Blurred,
    /// Not read: the picture moves.
    Moving,
}

/// What a scanner has to tell.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ScanEvent {
    /// The text of a crop has changed, and not enough frames agree on it yet.
    Tentative(Sighted),
    /// Enough frames agree. Told again only when they come to agree on another text.
    Settled(Sighted),
    /// A crop is gone, or the scan ended, before frames agreed on what it says; or they had agreed, and it is gone:
    /// [`Sighted::settled`] tells.
    Left(Sighted),
}

/// What a crop reads.
#[derive(Debug, Clone, PartialEq)]
pub struct Sighted {
    /// The crop's number; none is given twice.
    pub crop: u64,
    /// The newest reading of the text, with places in its frame.
    pub reading: Transcript<Quad>,
    /// How likely the text is right, all readings of the crop together, in [0, 1].
    pub confidence: f32,
    /// How many frames read this text.
    pub readings: usize,
    /// Whether frames agreed on this text.
    pub settled: bool,
    /// Where the crop stands.
    pub place: Quad,
    /// Time of the frame, as [`Scanner::see`] was told.
    pub at: Duration,
}

/// What a scanner has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ScanStats {
    /// Frames that came.
    pub frames: u64,
    /// Frames that were not read because they were blurred.
    pub blurred: u64,
    /// Frames that were not read because the picture moved.
    pub moving: u64,
    /// Crops that were read.
    pub crops: u64,
}

/// A crop that is followed.
#[derive(Debug)]
struct Track {
    number: u64,
    place: Quad,
    agreement: Agreement<Quad>,
    /// The last text told, and whether it was told as settled.
    told: Option<(String, bool)>,
    at: Duration,
    /// Frames read in a row without it.
    unseen: usize,
}

/// Reads a camera's frames.
#[derive(Debug)]
pub struct Scanner {
    recognizer: TextRecognizer,
    decoding: Decoding,
    plan: Plan,
    options: ScanOptions,
    tracks: Vec<Track>,
    numbers: u64,
    /// The last frame that came, and the last that was read.
    last: Option<Thumbnail>,
    read: Option<Thumbnail>,
    events: VecDeque<ScanEvent>,
    stats: ScanStats,
}

impl Scanner {
    /// A scanner that reads with `recognizer`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for settings that do not fit the vocabulary, options outside their range, and a
    /// region that is no [convex quad](Quad::projection).
    pub fn new(
        recognizer: &TextRecognizer,
        decoding: &Decoding,
        options: ScanOptions,
    ) -> Result<Self> {
        options.check()?;
        Ok(Self {
            plan: decoding.plan(recognizer.tokens())?,
            recognizer: recognizer.clone(),
            decoding: decoding.clone(),
            options,
            tracks: Vec::new(),
            numbers: 0,
            last: None,
            read: None,
            events: VecDeque::new(),
            stats: ScanStats::default(),
        })
    }

    /// Reads a frame if it is worth it; [`poll`](Self::poll) then tells what came of it. `at` is the frame's time on any
    /// clock, for the events.
    ///
    /// # Errors
    /// [`ErrorKind::Inference`] if the model fails, [`ErrorKind::InvalidArgument`] where the region lies outside the
    /// frame, [`ErrorKind::Limit`] when 65,536 events wait to be polled.
    pub fn see(&mut self, frame: &ImageView<'_>, at: Duration) -> Result<Seen> {
        if self.events.len() >= MOST_EVENTS {
            return Err(Error::new(
                ErrorKind::Limit,
                format!("{MOST_EVENTS} events wait to be polled: call `poll` until it gives none"),
            ));
        }
        self.stats.frames += 1;
        let watched = match &self.options.region {
            Region::Quad(quad) => gate::part(frame, quad.bounds())?,
            Region::Whole | Region::Found(_) => *frame,
        };
        let thumbnail = Thumbnail::new(&watched);
        let moves = |other: &Thumbnail| thumbnail.motion(other) > self.options.motion;
        let moving = self.last.as_ref().is_some_and(moves);
        let elsewhere = self.read.as_ref().is_some_and(moves);
        self.last = Some(thumbnail.clone());
        if moving {
            self.stats.moving += 1;
            return Ok(Seen::Moving);
        }
        let sharp = |part: &ImageView<'_>| gate::sharpness(part) >= self.options.sharpness;
        let crops = match &self.options.region {
            Region::Whole | Region::Quad(_) if !sharp(&watched) => {
                self.stats.blurred += 1;
                return Ok(Seen::Blurred);
            }
            Region::Whole => {
                let (width, height) = (frame.width() as f32, frame.height() as f32);
                vec![Quad::rectangle(0.0, 0.0, width, height)]
            }
            Region::Quad(quad) => vec![*quad],
            Region::Found(detector) => {
                let mut found = detector.detect(frame)?;
                found.truncate(MOST_TRACKS);
                found
                    .retain(|quad| gate::part(frame, quad.bounds()).is_ok_and(|part| sharp(&part)));
                found
            }
        };
        // What stands in a fixed region after the picture changed is something else.
        if elsewhere && !matches!(self.options.region, Region::Found(_)) {
            for track in std::mem::take(&mut self.tracks) {
                self.leave(track);
            }
        }
        self.read = Some(thumbnail);
        self.read_crops(frame, &crops, at)?;
        self.stats.crops += crops.len() as u64;
        Ok(Seen::Read(crops.len()))
    }

    fn read_crops(&mut self, frame: &ImageView<'_>, places: &[Quad], at: Duration) -> Result<()> {
        let whole = matches!(self.options.region, Region::Whole);
        let crops: Vec<Crop<'_>> = (places.iter())
            .map(|&quad| Crop {
                image: *frame,
                quad: (!whole).then_some(quad),
            })
            .collect();
        let read = self.recognizer.recognize_batch(&crops, &self.plan);
        let mut seen = Vec::with_capacity(places.len());
        for (&place, reading) in places.iter().zip(read) {
            let mut reading = reading?.into_best();
            if self.decoding.rejects(&reading) {
                // Not of what is looked for: as if nothing stood there.
                reading.text.clear();
                reading.words.clear();
                reading.tokens.clear();
            }
            let index = self.follow(place, &seen);
            seen.push(index);
            let Some(track) = self.tracks.get_mut(index) else {
                continue;
            };
            (track.place, track.at) = (place, at);
            track.unseen = if reading.text.is_empty() {
                track.unseen + 1
            } else {
                0
            };
            track.agreement.add(reading);
            let event = tell(track, &self.options);
            self.events.extend(event);
        }
        let mut gone = Vec::new();
        for (index, mut track) in std::mem::take(&mut self.tracks).into_iter().enumerate() {
            track.unseen += usize::from(!seen.contains(&index));
            match track.unseen > self.options.patience {
                true => gone.push(track),
                false => self.tracks.push(track),
            }
        }
        for track in gone {
            self.leave(track);
        }
        Ok(())
    }

    /// The position of the track that stands there, a new one where none does. `taken` are those of this frame's
    /// other crops.
    fn follow(&mut self, place: Quad, taken: &[usize]) -> usize {
        let free = |index: &usize| !taken.contains(index);
        let overlaps = (0..self.tracks.len())
            .filter(free)
            .map(|index| (index, overlap(&self.tracks[index].place, &place)))
            .max_by(|a, b| a.1.total_cmp(&b.1));
        let fixed = !matches!(self.options.region, Region::Found(_));
        if let Some((index, shared)) = overlaps
            && (fixed || shared >= SAME)
        {
            return index;
        }
        self.numbers += 1;
        self.tracks.push(Track {
            number: self.numbers,
            place,
            agreement: Agreement::new(self.options.fading),
            told: None,
            at: Duration::ZERO,
            unseen: 0,
        });
        self.tracks.len() - 1
    }

    /// Tells that a crop is gone, if anything was read there.
    fn leave(&mut self, track: Track) {
        let left = sighted(&track, &self.options).filter(|s| !s.reading.text.is_empty());
        self.events.extend(left.map(ScanEvent::Left));
    }

    /// The next event, if there is one.
    pub fn poll(&mut self) -> Option<ScanEvent> {
        self.events.pop_front()
    }

    /// Ends the scan: every crop that is followed is told as [`ScanEvent::Left`], after the events nobody polled yet.
    pub fn finish(mut self) -> Vec<ScanEvent> {
        for track in std::mem::take(&mut self.tracks) {
            self.leave(track);
        }
        self.events.into()
    }

    /// What the scanner has done.
    pub fn stats(&self) -> ScanStats {
        self.stats
    }
}

/// What a track has to tell after a reading, if that is news.
fn tell(track: &mut Track, options: &ScanOptions) -> Option<ScanEvent> {
    let now = sighted(track, options).filter(|s| !s.reading.text.is_empty())?;
    let (text, settled) = (&now.reading.text, now.settled);
    match &track.told {
        Some((told, was_settled)) if told == text && (*was_settled || !settled) => return None,
        _ => {}
    }
    track.told = Some((text.clone(), settled));
    Some(match settled {
        true => ScanEvent::Settled(now),
        false => ScanEvent::Tentative(now),
    })
}

fn sighted(track: &Track, options: &ScanOptions) -> Option<Sighted> {
    let best = track.agreement.best()?;
    let told = matches!(&track.told, Some((text, true)) if *text == best.newest.text);
    Some(Sighted {
        crop: track.number,
        confidence: best.confidence,
        readings: best.readings,
        settled: told || (best.readings >= options.agree && best.confidence >= options.confidence),
        reading: best.newest.clone(),
        place: track.place,
        at: track.at,
    })
}

/// Overlap of the upright rectangles around two places, over their union.
fn overlap(a: &Quad, b: &Quad) -> f32 {
    let ([al, at, ar, ab], [bl, bt, br, bb]) = (a.bounds(), b.bounds());
    let shared = (ar.min(br) - al.max(bl)).max(0.0) * (ab.min(bb) - at.max(bt)).max(0.0);
    let union = (ar - al) * (ab - at) + (br - bl) * (bb - bt) - shared;
    if union > 0.0 { shared / union } else { 0.0 }
}

#[cfg(test)]
mod tests;
