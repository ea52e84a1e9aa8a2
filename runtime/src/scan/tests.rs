//! A scanner over the fake reader: which frames are read, what settles, what is told when crops leave.

use super::*;
use crate::detect::Detector;
use crate::image::PixelFormat;
use crate::model::FakeModel;
use crate::model::testing::line_spec;
use crate::spec::{FrontEnd, Normalization};
use proptest::prelude::*;
use std::sync::{Arc, Mutex};

/// Reads the brightest row of every second column: row 0 is the blank, row 1 the space, row 2 `a`; a letter with
/// probability 0.95.
fn fake() -> TextRecognizer {
    let mut spec = line_spec(8);
    if let FrontEnd::Line(line) = &mut spec.front_end {
        line.normalization = Normalization::Fixed {
            mean: vec![0.0],
            deviation: vec![0.2],
        };
    }
    TextRecognizer::new(FakeModel::new(spec).unwrap()).unwrap()
}

/// A picture the fake reads: each letter 4 columns wide, 4 columns of blank after it; always 64 columns.
fn picture(text: &str) -> Vec<u8> {
    let mut data = vec![0; 8 * 64];
    for x in 0..64 {
        let letter = text.as_bytes().get(x / 8).filter(|_| x % 8 < 4);
        let row = letter.map_or(0, |letter| usize::from(letter - b'a') + 2);
        data[row * 64 + x] = 255;
    }
    data
}

fn view(data: &[u8]) -> ImageView<'_> {
    ImageView::new(data, 64, 8, 64, PixelFormat::Gray).unwrap()
}

/// What is told, in short: `?` tentative, `!` settled, `-` left unsettled, `.` left settled.
fn told(events: impl IntoIterator<Item = ScanEvent>) -> Vec<String> {
    let mut out = Vec::new();
    for event in events {
        let (mark, sighted) = match event {
            ScanEvent::Tentative(s) => ("?", s),
            ScanEvent::Settled(s) => ("!", s),
            ScanEvent::Left(s) if s.settled => (".", s),
            ScanEvent::Left(s) => ("-", s),
        };
        out.push(format!("{}{mark}{}", sighted.crop, sighted.reading.text));
    }
    out
}

fn scan(options: ScanOptions, frames: &[Vec<u8>]) -> (Vec<Seen>, Vec<String>) {
    let mut scanner = Scanner::new(&fake(), &Decoding::greedy(), options).unwrap();
    let mut seen = Vec::new();
    let mut events = Vec::new();
    for (index, frame) in frames.iter().enumerate() {
        seen.push(
            scanner
                .see(&view(frame), Duration::from_millis(100 * index as u64))
                .unwrap(),
        );
        events.extend(std::iter::from_fn(|| scanner.poll()));
    }
    events.extend(scanner.finish());
    (seen, told(events))
}

#[test]
fn frames_that_agree_settle_once() {
    let frames = vec![picture("cab"); 6];
    let (seen, told) = scan(ScanOptions::default(), &frames);
    assert_eq!(seen, [Seen::Read(1); 6]);
    assert_eq!(told, ["1?cab", "1!cab", "1.cab"]);
}

#[test]
fn the_last_words_are_told_though_they_did_not_settle() {
    let (_, told) = scan(ScanOptions::default(), &vec![picture("bead"); 2]);
    assert_eq!(told, ["1?bead", "1-bead"]);
    assert_eq!(
        scan(ScanOptions::default(), &vec![picture(""); 8]).1,
        [""; 0]
    );
}

#[test]
fn a_picture_that_changes_is_read_when_it_holds_still_and_anew() {
    let mut frames = vec![picture("cab"); 4];
    frames.extend(vec![picture("fedeff"); 4]);
    let (seen, told) = scan(ScanOptions::default(), &frames);
    assert_eq!(seen[4], Seen::Moving);
    assert_eq!(
        seen.iter().filter(|&&seen| seen == Seen::Read(1)).count(),
        7
    );
    assert_eq!(
        told,
        [
            "1?cab", "1!cab", "1.cab", "2?fedeff", "2!fedeff", "2.fedeff"
        ]
    );
}

#[test]
fn blurred_frames_are_left_out() {
    let gray = vec![128u8; 8 * 64];
    let (seen, told) = scan(ScanOptions::default(), &[gray.clone(), gray]);
    assert_eq!((seen, told.len()), (vec![Seen::Blurred; 2], 0));
}

#[test]
fn readings_that_contradict_each_other_do_not_settle() {
    let options = ScanOptions::default().with_motion(f32::INFINITY);
    let frames: Vec<Vec<u8>> = (0..20).map(|i| picture(["cab", "cad"][i % 2])).collect();
    let (_, told) = scan(options, &frames);
    assert!(told.iter().all(|event| !event.contains('!')), "{told:?}");
    assert!(told.last().unwrap().starts_with("1-ca"), "{told:?}");
}

#[test]
fn a_quad_is_read_and_placed_in_the_frame() {
    let quad = Quad::rectangle(16.0, 0.0, 16.0, 8.0);
    let options = ScanOptions::default().with_region(Region::Quad(quad));
    let mut scanner = Scanner::new(&fake(), &Decoding::greedy(), options).unwrap();
    scanner
        .see(&view(&picture("abcdef")), Duration::ZERO)
        .unwrap();
    let Some(ScanEvent::Tentative(sighted)) = scanner.poll() else {
        panic!("one reading");
    };
    assert_eq!((sighted.reading.text.as_str(), sighted.place), ("cd", quad));
    let [left, _, right, _] = sighted.reading.words[0].span.bounds();
    assert!(left >= 16.0 && right <= 32.0);
}

/// Finds what it is told to find.
#[derive(Debug)]
struct Told(Mutex<Vec<Vec<Quad>>>);

impl Detector for Told {
    fn detect(&self, _: &ImageView<'_>) -> Result<Vec<Quad>> {
        Ok(self.0.lock().unwrap().remove(0))
    }
}

#[test]
fn crops_are_followed_where_they_stand_and_leave_after_a_while() {
    let word = |x: f32| Quad::rectangle(x, 0.0, 16.0, 8.0);
    let mut found = vec![vec![word(0.0), word(32.0)]; 3];
    // The second one moves a little, the first one goes.
    found.extend(vec![vec![word(30.0)]; 6]);
    let detector = Arc::new(Told(Mutex::new(found)));
    let frames = vec![picture("abcdefab"); 9];
    let (seen, told) = scan(
        ScanOptions::default().with_region(Region::Found(detector)),
        &frames,
    );
    assert_eq!((seen[0], seen[8]), (Seen::Read(2), Seen::Read(1)));
    assert_eq!(told[..4], ["1?ab", "2?ef", "1!ab", "2!ef"]);
    assert!(
        told.contains(&"1.ab".to_owned()) && told.last().unwrap().starts_with("2"),
        "{told:?}"
    );
}

#[test]
fn what_is_not_looked_for_is_as_nothing() {
    let decoding = Decoding::beam(8)
        .constrain(crate::decode::Constraint::phrases(["fed"]))
        .reject(-1.0);
    let mut scanner = Scanner::new(&fake(), &decoding, ScanOptions::default()).unwrap();
    for _ in 0..4 {
        scanner.see(&view(&picture("cab")), Duration::ZERO).unwrap();
    }
    assert!(scanner.finish().is_empty());
}

#[test]
fn options_outside_their_range_are_refused() {
    let bad = Quad {
        corners: [[0.0; 2]; 4],
    };
    let cases = [
        ScanOptions::default().with_sharpness(f32::NAN),
        ScanOptions::default().with_motion(-1.0),
        ScanOptions::default().with_agree(0),
        ScanOptions::default().with_confidence(1.5),
        ScanOptions::default().with_region(Region::Quad(bad)),
        ScanOptions {
            fading: 1.0,
            ..ScanOptions::default()
        },
    ];
    for options in cases {
        let error = Scanner::new(&fake(), &Decoding::greedy(), options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
}

proptest! {
    /// Whatever is found: memory stays bounded, numbers are given once, and no text is settled that was not read.
    #[test]
    fn any_frames_are_followed_in_bounded_memory(
        found in prop::collection::vec(prop::collection::vec((0u8..6, 1u8..3), 0..90), 1..12),
    ) {
        let frames = found.len();
        let quads = found.iter().map(|frame| {
            let quad = |&(x, width): &(u8, u8)| Quad::rectangle(8.0 * f32::from(x), 0.0, 8.0 * f32::from(width), 8.0);
            frame.iter().map(quad).collect::<Vec<_>>()
        });
        let detector = Arc::new(Told(Mutex::new(quads.collect())));
        let options = ScanOptions::default().with_region(Region::Found(detector));
        let mut scanner = Scanner::new(&fake(), &Decoding::greedy(), options).unwrap();
        let data = picture("abcdefab");
        for _ in 0..frames {
            let Seen::Read(crops) = scanner.see(&view(&data), Duration::ZERO).unwrap() else {
                panic!("nothing moves");
            };
            prop_assert!(crops <= MOST_TRACKS);
            prop_assert!(scanner.tracks.len() <= MOST_TRACKS * (scanner.options.patience + 2));
        }
        let mut left = std::collections::HashSet::new();
        for event in scanner.finish() {
            if let ScanEvent::Left(sighted) = event {
                prop_assert!(left.insert(sighted.crop));
            }
        }
    }
}
