//! Packs utterances one after another into a row of fixed width, so that one graph serves every batch and
//! hardly a frame is padding.
//!
//! A row holds F channels of N feature frames, `[1, F, 1, N]`. An utterance of T frames takes
//! `ceil(T / stride) + delay` output frames: its own and the flush of its end; then follows a gap of zeros as
//! wide as the longest left context, so that no utterance sees its neighbor. Zero is the flush value.

use crate::data::batch::Pick;
use crate::{Error, ErrorKind, Result};
use ndarray::ArrayView2;

/// The geometry of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packer {
    /// Feature frames of a row: N, a multiple of the stride.
    pub width: usize,
    /// Features a frame: F.
    pub features: usize,
    /// Feature frames per output frame.
    pub stride: usize,
    /// Zero feature frames between utterances.
    pub gap: usize,
    /// Output frames an utterance is delayed by.
    pub delay: usize,
    /// Most utterances in a row.
    pub most: usize,
    /// Most symbols in a row, all its transcripts together: a network that reads them has room for so many.
    pub symbols: usize,
    /// Views of each utterance: with 2 a row's halves hold the same utterances at the same places, each with an
    /// augmentation of its own, and an utterance counts twice.
    pub views: usize,
}

/// What a row keeps of an utterance besides its features.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Utterance {
    /// Symbols without blanks.
    pub targets: Vec<u32>,
    /// Where it came from, for messages.
    pub name: String,
    /// Its index in the data set.
    pub index: usize,
}

/// Where an utterance's own output frames stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// First output frame, after the delay.
    pub start: usize,
    /// Number of output frames.
    pub frames: usize,
    /// The utterance.
    pub utterance: Utterance,
}

/// A filled row.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// `[F, N]`.
    pub features: Vec<f32>,
    /// 1 where an utterance stands (its delay included), `[N / stride]`.
    pub mask: Vec<f32>,
    /// The utterances in order.
    pub segments: Vec<Segment>,
    used: usize,
    symbols: usize,
}

/// An utterance in a plan of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// Which.
    pub pick: Pick,
    /// Its feature frames.
    pub frames: usize,
    /// The symbols of its transcript.
    pub symbols: usize,
}

impl Row {
    /// Output frames that answer for input.
    pub fn frames(&self) -> usize {
        self.segments.iter().map(|segment| segment.frames).sum()
    }
}

impl Packer {
    /// Feature frames that an utterance of `frames` takes, gap included.
    pub fn span(&self, frames: usize) -> usize {
        (frames.div_ceil(self.stride) + self.delay) * self.stride + self.gap
    }

    /// The packer of one view's part of a row.
    pub fn view(&self) -> Self {
        let views = self.views.max(1);
        // The last utterance of a part keeps its gap, since another part follows it.
        let gap = if views > 1 { self.gap } else { 0 };
        Self {
            width: (self.width / views).saturating_sub(gap),
            most: (self.most / views).max(1),
            symbols: self.symbols / views,
            views: 1,
            ..*self
        }
    }

    /// The parts, one a view, side by side; all hold the same utterances, in the same places.
    ///
    /// # Errors
    /// [`ErrorKind::Data`] where they do not.
    pub fn join(&self, parts: &[Row]) -> Result<Row> {
        let view = self.view();
        let places = |row: &Row| -> Vec<_> {
            let places = row.segments.iter();
            places
                .map(|s| (s.start, s.frames, s.utterance.index))
                .collect()
        };
        let mut whole = self.row();
        for (index, part) in parts.iter().enumerate() {
            if places(part) != places(&parts[0]) || index >= self.views.max(1) {
                return Err(Error::new(
                    ErrorKind::Data,
                    "the views of a row hold other utterances or other frames; an augmentation that moves frames \
                     (speed, shift) does not go with objectives that compare views",
                ));
            }
            let from = index * (self.width / self.views.max(1));
            for (line, own) in whole
                .features
                .chunks_exact_mut(self.width)
                .zip(part.features.chunks_exact(view.width))
            {
                line[from..][..view.width].copy_from_slice(own);
            }
            let first = from / self.stride;
            whole.mask[first..][..part.mask.len()].copy_from_slice(&part.mask);
            whole
                .segments
                .extend(part.segments.iter().map(|segment| Segment {
                    start: segment.start + first,
                    ..segment.clone()
                }));
        }
        whole.used = self.width;
        whole.symbols = parts.iter().map(|part| part.symbols).sum();
        Ok(whole)
    }

    /// An empty row.
    pub fn row(&self) -> Row {
        Row {
            features: vec![0.0; self.features * self.width],
            mask: vec![0.0; self.width / self.stride],
            segments: Vec::new(),
            used: 0,
            symbols: 0,
        }
    }

    /// Whether an utterance of so many feature frames and symbols still fits into `row`; the last gap may fall outside.
    pub fn fits(&self, row: &Row, frames: usize, symbols: usize) -> bool {
        row.segments.len() < self.most
            && row.used + self.span(frames) - self.gap <= self.width
            && row.symbols.saturating_add(symbols) <= self.symbols
    }

    /// Adds an utterance with features `[F, T]` to a row.
    ///
    /// # Errors
    /// [`ErrorKind::Data`] where it does not fit or has another number of features.
    pub fn place(
        &self,
        row: &mut Row,
        features: ArrayView2<'_, f32>,
        utterance: Utterance,
    ) -> Result<()> {
        let (channels, frames) = features.dim();
        let symbols = utterance.targets.len();
        if channels != self.features || !self.fits(row, frames, symbols) {
            return Err(self.misfit(&utterance.name, frames, channels, symbols));
        }
        for (line, band) in row
            .features
            .chunks_exact_mut(self.width)
            .zip(features.outer_iter())
        {
            for (target, &value) in line[row.used..].iter_mut().zip(band) {
                *target = value;
            }
        }
        let own = frames.div_ceil(self.stride);
        let first = row.used / self.stride;
        row.mask[first..first + own + self.delay].fill(1.0);
        row.segments.push(Segment {
            start: first + self.delay,
            frames: own,
            utterance,
        });
        row.used += self.span(frames);
        row.symbols += symbols;
        Ok(())
    }

    fn misfit(&self, name: &str, frames: usize, channels: usize, symbols: usize) -> Error {
        Error::new(
            ErrorKind::Data,
            format!(
                "{name}: {frames} frames of {channels} features and {symbols} symbols do not fit a row of {} by {} and {} \
                 symbols; raise train.batch_frames or lower data.max_seconds",
                self.width, self.features, self.symbols
            ),
        )
    }

    /// Which picks share a row, for picks in an epoch's order: first fit into a few open rows, which come out when they
    /// are full.
    ///
    /// # Errors
    /// [`ErrorKind::Data`] where a pick is longer than a row.
    pub fn plan(&self, items: &[Planned]) -> Result<Vec<Vec<Pick>>> {
        struct Open {
            used: usize,
            symbols: usize,
            picks: Vec<Pick>,
        }
        let mut done = Vec::new();
        let mut open: Vec<Open> = Vec::new();
        for &Planned {
            pick,
            frames,
            symbols,
        } in items
        {
            let span = self.span(frames);
            if span - self.gap > self.width || symbols > self.symbols {
                let name = format!("utterance {}", pick.item);
                return Err(self.misfit(&name, frames, self.features, symbols));
            }
            let fits = |row: &&mut Open| {
                row.picks.len() < self.most
                    && row.used + span - self.gap <= self.width
                    && row.symbols.saturating_add(symbols) <= self.symbols
            };
            if let Some(row) = open.iter_mut().find(fits) {
                row.used += span;
                row.symbols += symbols;
                row.picks.push(pick);
                continue;
            }
            if open.len() == OPEN {
                let fullest = (0..OPEN).max_by_key(|&index| (open[index].used, OPEN - index));
                done.extend(fullest.map(|index| open.remove(index).picks));
            }
            open.push(Open {
                used: span,
                symbols,
                picks: vec![pick],
            });
        }
        done.extend(open.into_iter().map(|row| row.picks));
        Ok(done)
    }
}

/// Rows that are open at the same time: enough to fill the gaps that the next utterance would leave.
const OPEN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;
    use proptest::prelude::*;

    const PACKER: Packer = Packer {
        width: 64,
        features: 3,
        stride: 2,
        gap: 4,
        delay: 2,
        most: 5,
        symbols: 7,
        views: 1,
    };

    proptest! {
        #[test]
        fn every_utterance_stands_once_and_alone(lengths in prop::collection::vec(1usize..56, 1..40)) {
            let items: Vec<_> = lengths
                .iter()
                .enumerate()
                .map(|(item, &frames)| Planned {
                    pick: Pick { item, copy: 0 },
                    frames,
                    symbols: 1 + item % 3,
                })
                .collect();
            let mut seen = vec![0; lengths.len()];
            for picks in PACKER.plan(&items).unwrap() {
                let mut row = PACKER.row();
                for pick in picks {
                    let features = Array2::from_shape_fn((3, lengths[pick.item]), |(f, t)| {
                        (pick.item * 1000 + t * 10 + f) as f32
                    });
                    let utterance = Utterance {
                        targets: vec![1; 1 + pick.item % 3],
                        name: String::new(),
                        index: pick.item,
                    };
                    PACKER.place(&mut row, features.view(), utterance).unwrap();
                }
                prop_assert!(row.segments.len() <= PACKER.most);
                let symbols = row.segments.iter().map(|s| s.utterance.targets.len());
                prop_assert!(symbols.sum::<usize>() <= PACKER.symbols);
                let mut end = 0;
                for segment in &row.segments {
                    let index = segment.utterance.index;
                    seen[index] += 1;
                    let start = (segment.start - PACKER.delay) * PACKER.stride;
                    prop_assert!(start >= end);
                    prop_assert_eq!(segment.frames, lengths[index].div_ceil(2));
                    for t in 0..lengths[index] {
                        for f in 0..3 {
                            let found = row.features[f * PACKER.width + start + t];
                            prop_assert_eq!(found, (index * 1000 + t * 10 + f) as f32);
                        }
                    }
                    let masked = &row.mask[start / 2..][..segment.frames + PACKER.delay];
                    prop_assert!(masked.iter().all(|&m| m == 1.0));
                    end = (segment.start + segment.frames) * PACKER.stride + PACKER.gap;
                }
                let ones = row.mask.iter().filter(|&&m| m == 1.0).count();
                let claimed: usize = row.segments.iter().map(|s| s.frames + PACKER.delay).sum();
                prop_assert_eq!(ones, claimed);
            }
            prop_assert!(seen.iter().all(|&n| n == 1));
        }
    }

    #[test]
    fn too_long_is_an_error_that_says_what_to_do() {
        let error = PACKER
            .plan(&[Planned {
                pick: Pick { item: 3, copy: 0 },
                frames: 100,
                symbols: 1,
            }])
            .unwrap_err();
        assert!(error.to_string().contains("batch_frames"), "{error}");
    }
}
