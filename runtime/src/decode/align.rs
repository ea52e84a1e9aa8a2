//! Where the tokens of a prefix stand: alignments kept as shared chains.
//!
//! Of all alignments that a prefix sums up, the search follows one back: at every frame the branch with the larger
//! mass. A chain has one link per token with its first frame; the end of a token is known only when the
//! next one begins, so a link holds the end of the token *before* it. Prefixes with a common past share links.

use super::prefix::NONE;
use crate::transcript::{FrameSpan, TokenSpan};

/// One token of an alignment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link {
    /// The token's first frame.
    start: u64,
    /// The frame after the last one of the token before.
    previous_end: u64,
    /// The link of the token before, [`NONE`] at the chain's beginning.
    previous: u32,
    /// The highest probability of the token before.
    previous_peak: f32,
}

/// An alignment up to now: its last token's link, where that token ended, and its highest probability so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trace {
    pub link: u32,
    pub peak: f32,
    pub end: u64,
}

impl Trace {
    /// The alignment of no token.
    pub const EMPTY: Self = Self {
        link: NONE,
        peak: 0.0,
        end: 0,
    };
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Alignments {
    links: Vec<Link>,
}

impl Alignments {
    /// No alignment, in the memory of `links` and with room for `capacity` of them.
    pub fn within(mut links: Vec<Link>, capacity: usize) -> Self {
        links.clear();
        links.reserve(capacity);
        Self { links }
    }

    /// The memory of all alignments, which are no more.
    pub fn take_memory(&mut self) -> Vec<Link> {
        std::mem::take(&mut self.links)
    }

    pub fn len(&self) -> usize {
        self.links.len()
    }

    /// Continues `trace` with a token that begins at frame `start`; returns the token's link.
    pub fn extend(&mut self, trace: Trace, start: u64) -> u32 {
        let link = self.links.len() as u32;
        self.links.push(Link {
            start,
            previous_end: trace.end,
            previous: trace.link,
            previous_peak: trace.peak,
        });
        link
    }

    /// Appends the spans of `ids`, the last tokens of `trace`, to `spans`.
    pub fn spans(&self, trace: Trace, ids: &[u32], spans: &mut Vec<TokenSpan<FrameSpan>>) {
        let first = spans.len();
        let Trace {
            mut link,
            mut peak,
            mut end,
        } = trace;
        for &id in ids.iter().rev() {
            let Some(found) = self.links.get(link as usize) else {
                break;
            };
            spans.push(TokenSpan {
                id,
                span: FrameSpan {
                    start: found.start,
                    end,
                },
                confidence: peak.min(1.0),
            });
            (link, peak, end) = (found.previous, found.previous_peak, found.previous_end);
        }
        spans[first..].reverse();
    }

    /// Keeps the last `depth` links of each chain in `alive` and drops the rest. Returns where each link went.
    pub fn compact(&mut self, alive: impl IntoIterator<Item = (u32, u32)>) -> Vec<u32> {
        let mut moved = vec![NONE; self.links.len()];
        for (mut link, depth) in alive {
            for _ in 0..depth {
                if link == NONE || moved[link as usize] != NONE {
                    break;
                }
                moved[link as usize] = 0;
                link = self.links[link as usize].previous;
            }
        }
        let mut kept = 0;
        for (old, place) in (0..).zip(&mut moved) {
            if *place == NONE {
                continue;
            }
            *place = kept;
            self.links[kept as usize] = self.links[old];
            kept += 1;
        }
        self.links.truncate(kept as usize);
        for link in &mut self.links {
            link.previous = moved.get(link.previous as usize).copied().unwrap_or(NONE);
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_are_shared_and_survive_compaction() {
        let mut alignments = Alignments::default();
        let mut extend = |trace, start, peak, end| {
            let link = alignments.extend(trace, start);
            Trace { link, peak, end }
        };
        let a = extend(Trace::EMPTY, 3, 0.5, 5);
        let ab = extend(a, 7, 0.25, 8);
        let ac = extend(a, 6, 0.75, 7);
        let read = |alignments: &Alignments, trace, ids: &[u32]| {
            let mut spans = Vec::new();
            alignments.spans(trace, ids, &mut spans);
            let plain = spans
                .iter()
                .map(|s| (s.id, s.span.start, s.span.end, s.confidence));
            plain.collect::<Vec<_>>()
        };
        assert_eq!(
            read(&alignments, ab, &[1, 2]),
            [(1, 3, 5, 0.5), (2, 7, 8, 0.25)]
        );
        let moved = alignments.compact([(ac.link, 2)]);
        assert_eq!(alignments.len(), 2);
        let ac = Trace {
            link: moved[ac.link as usize],
            ..ac
        };
        assert_eq!(
            read(&alignments, ac, &[1, 3]),
            [(1, 3, 5, 0.5), (3, 6, 7, 0.75)]
        );
        let moved = alignments.compact([(ac.link, 1)]);
        let ac = Trace {
            link: moved[ac.link as usize],
            ..ac
        };
        assert_eq!(read(&alignments, ac, &[3]), [(3, 6, 7, 0.75)]);
        assert_eq!(alignments.len(), 1);
    }
}
