//! What a beam search has decided for good, and what it may forget: hours of input in bounded memory.
//!
//! A token that every prefix of the beam has in common can never change: it is *stable*. Stable tokens are
//! committed, which moves them with their spans out of the prefix tree into a plain list, and makes the tree begin
//! after them. Committing depends on frames alone, never on how they were pushed.

use super::align::Trace;
use super::beam::Beam;
use super::prefix::{NONE, ROOT};
use crate::transcript::{FrameSpan, TokenSpan};

/// Tree nodes and alignment links that a search of a width makes before dead ones are first looked for.
pub(super) fn room_for(width: usize) -> usize {
    width.saturating_mul(128).clamp(1 << 10, 1 << 16)
}

/// Tokens by which the prefixes in the beam may differ; older differences are decided for the best prefix.
pub(super) const MOST_TENTATIVE: u32 = 512;

/// A final reading of what has not been taken.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Hypothesis {
    /// Natural logarithm of its mass.
    pub score: f64,
    pub tokens: Vec<TokenSpan<FrameSpan>>,
}

impl Beam {
    /// Called after every frame: drops what is dead once there is much of it.
    pub(super) fn bound_memory(&mut self) {
        if self.deepest > MOST_TENTATIVE {
            self.settle(self.deepest - MOST_TENTATIVE / 2);
            self.compact();
        } else if self.tree.len().max(self.alignments.len()) >= self.compact_at {
            self.compact();
        }
    }

    /// Decides for the best prefix, but for its last `open` tokens.
    pub(super) fn decide(&mut self, open: u32) {
        let best = self.entries.best();
        let depth = best.map_or(0, |best| {
            self.tree.node(self.entries.prefixes[best].node).depth
        });
        if depth > open {
            self.settle(depth - open);
            self.compact();
        }
    }

    /// Drops the prefixes that differ from the best one within its first `depth` tokens, or are far longer.
    fn settle(&mut self, depth: u32) {
        let Some(best) = self.entries.best() else {
            return;
        };
        let best = self.entries.prefixes[best].node;
        let anchor = self.tree.ancestor(best, depth);
        let depth = self.tree.node(anchor).depth;
        let longest = self.tree.node(best).depth + MOST_TENTATIVE / 2;
        self.entries.retain(&mut self.tree, |tree, node| {
            tree.ancestor(node, depth) == anchor && tree.node(node).depth <= longest
        });
    }

    /// Commits what is stable, but for the last stable token, whose end may still move, and drops dead nodes.
    pub(super) fn compact(&mut self) {
        let common = self.common();
        let root = match self.tree.node(common).parent {
            NONE => ROOT,
            parent => parent,
        };
        if root != ROOT {
            self.commit_to(root);
        }
        let moved = (self.tree).compact(root, self.entries.prefixes.iter().map(|p| p.node));
        if !self.states.is_empty() {
            for (old, &new) in moved.iter().enumerate().filter(|(_, new)| **new != NONE) {
                self.states[new as usize] = self.states[old];
            }
            self.states.truncate(self.tree.len());
        }
        let place = |old: u32, moved: &[u32]| moved.get(old as usize).copied().unwrap_or(NONE);
        self.deepest = 0;
        for prefix in &mut self.entries.prefixes {
            prefix.node = place(prefix.node, &moved);
            prefix.parent = place(prefix.parent, &moved);
            self.deepest = self.deepest.max(self.tree.node(prefix.node).depth);
        }
        let entries = self.entries.prefixes.iter().zip(&self.entries.traces);
        let chains = entries.flat_map(|(prefix, traces)| {
            let depth = self.tree.node(prefix.node).depth;
            [(traces.blank.link, depth), (traces.label_link, depth)]
        });
        let moved = self.alignments.compact(chains);
        for traces in &mut self.entries.traces {
            traces.blank.link = place(traces.blank.link, &moved);
            traces.label_link = place(traces.label_link, &moved);
        }
        let alive = self.tree.len().max(self.alignments.len());
        self.compact_at = room_for(self.settings.width).max(4 * alive);
    }

    /// Appends the tokens down to `root` to the committed ones, aligned as the best prefix has them.
    fn commit_to(&mut self, root: u32) {
        let Some(best) = self.entries.best() else {
            return;
        };
        let ids = self.tree.tokens(ROOT, self.entries.prefixes[best].node);
        let kept = self.committed.len() + self.tree.node(root).depth as usize;
        let mut committed = std::mem::take(&mut self.committed);
        self.spans(self.entries.trace(best, self.frames), &ids, &mut committed);
        committed.truncate(kept);
        if let Some(last) = committed.last() {
            self.committed_end = last.span.end;
        }
        self.committed = committed;
    }

    /// The longest beginning that all prefixes share.
    fn common(&self) -> u32 {
        (self.tree).common(self.entries.prefixes.iter().map(|prefix| prefix.node))
    }

    /// Appends the spans of `ids`, the tokens of `trace` since the root.
    ///
    /// What was committed was aligned as the best prefix of its time had it; where another one has
    /// become the best, its first tokens give way, so that spans never overlap.
    fn spans(&self, trace: Trace, ids: &[u32], spans: &mut Vec<TokenSpan<FrameSpan>>) {
        let first = spans.len();
        self.alignments.spans(trace, ids, spans);
        let mut before = self.committed_end;
        for token in &mut spans[first..] {
            if token.span.start >= before {
                break;
            }
            token.span.start = before;
            token.span.end = token.span.end.max(before + 1);
            before = token.span.end;
        }
    }

    /// The ids of all stable tokens that have not been taken.
    pub fn stable(&self) -> Vec<u32> {
        self.behind(self.common())
    }

    /// The ids of the best prefix, without what has been taken.
    pub fn leading(&self) -> Vec<u32> {
        let best = self.entries.best();
        self.behind(best.map_or(ROOT, |best| self.entries.prefixes[best].node))
    }

    fn behind(&self, node: u32) -> Vec<u32> {
        let mut ids: Vec<u32> = self.committed.iter().map(|token| token.id).collect();
        ids.extend(self.tree.tokens(ROOT, node));
        ids
    }

    /// The frame after the last token of the best prefix, none where it has none.
    pub fn last_end(&self) -> Option<u64> {
        let trace = self.entries.trace(self.entries.best()?, self.frames);
        if trace.link != NONE {
            return Some(trace.end);
        }
        (self.committed_end > 0).then_some(self.committed_end)
    }

    /// The stable tokens that can be taken now; [`take`](Self::take) takes the first of them.
    pub fn commit(&mut self) -> &[TokenSpan<FrameSpan>] {
        self.compact();
        &self.committed
    }

    /// Takes the first `count` committed tokens out.
    pub fn take(&mut self, count: usize) -> Vec<TokenSpan<FrameSpan>> {
        self.committed.drain(..count).collect()
    }

    /// All complete readings in the beam, best first: log-mass, with what the guide adds at the end, and slot.
    fn complete(&self) -> Vec<(f64, usize)> {
        let mut complete = Vec::with_capacity(self.entries.len());
        for (slot, prefix) in self.entries.prefixes.iter().enumerate() {
            let gain = match &self.guide {
                None => Some(0.0),
                Some(guide) => guide.finish(self.states[prefix.node as usize]),
            };
            if let Some(gain) = gain {
                complete.push((self.log(self.entries.masses[slot].total()) + gain, slot));
            }
        }
        complete.sort_by(|a, b| {
            let node = |slot: usize| self.entries.prefixes[slot].node;
            (b.0.total_cmp(&a.0)).then_with(|| node(a.1).cmp(&node(b.1)))
        });
        complete
    }

    /// The score of the best complete reading; minus infinity where none is complete.
    pub fn best_score(&self) -> f64 {
        (self.complete().first()).map_or(f64::NEG_INFINITY, |best| best.0)
    }

    /// The complete readings, best first; two may have the same text in other tokens.
    pub fn readings(&self) -> impl Iterator<Item = Hypothesis> {
        self.complete().into_iter().map(|(score, slot)| {
            let mut tokens = self.committed.clone();
            let ids = self.tree.tokens(ROOT, self.entries.prefixes[slot].node);
            self.spans(self.entries.trace(slot, self.frames), &ids, &mut tokens);
            Hypothesis { score, tokens }
        })
    }

    /// Nodes, links and prefixes kept: what the memory of a search is made of.
    #[cfg(test)]
    pub fn size(&self) -> (usize, usize, usize) {
        (self.tree.len(), self.alignments.len(), self.entries.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::beam::{BeamSettings, Spare};
    use crate::decode::frame;
    use crate::decode::shortlist::Limits;
    use crate::{LogProbs, Tokens};
    use ndarray::Array2;

    fn beam(width: usize, vocabulary: usize) -> Beam {
        let tokens = Limits { cut: 7.0, most: 64 };
        let settings = BeamSettings {
            width,
            least: 1e-6,
            tokens,
            blank_factor: 1.0,
            by_length: false,
        };
        Beam::new(vocabulary, 0, settings, None, &Spare::default())
    }

    fn push(beam: &mut Beam, probs: &Array2<f32>) {
        let scores = LogProbs::from_probs(probs.view());
        let mut scratch = Vec::new();
        for t in 0..probs.nrows() {
            beam.step(&frame::read(&scores, t, 0, 0, &mut scratch).unwrap());
        }
    }

    /// Frames like a recognizer's: long silences, now and then a token, every fourth of them in doubt.
    fn speech(frames: usize) -> Array2<f32> {
        let mut probs = Array2::from_elem((frames, 5), 0.000_25);
        for (t, mut row) in probs.rows_mut().into_iter().enumerate() {
            row[0] = 0.999;
            if t % 8 == 3 {
                let token = 1 + (t / 8) % 4;
                row[0] = 0.01;
                row[token] = if t % 32 == 3 { 0.6 } else { 0.989 };
                row[1 + token % 4] = if t % 32 == 3 { 0.39 } else { 0.0005 };
            }
        }
        probs
    }

    #[test]
    fn ten_million_frames_take_no_more_memory_than_ten_thousand() {
        let block = speech(10_000);
        let mut beam = beam(4, 5);
        let mut taken = 0;
        for _ in 0..1000 {
            push(&mut beam, &block);
            let stable = beam.commit().len();
            taken += beam.take(stable).len();
            let (nodes, links, prefixes) = beam.size();
            assert!(
                nodes.max(links) < 4 * MOST_TENTATIVE as usize,
                "{nodes} nodes, {links} links"
            );
            assert!(prefixes <= 4);
        }
        let spoken = 1000 * 10_000 / 8;
        assert!(
            (spoken - MOST_TENTATIVE as usize..=spoken).contains(&taken),
            "{taken}"
        );
        assert!(beam.best_score().is_finite());
    }

    #[test]
    fn an_old_doubt_is_settled_in_time() {
        let tokens = Tokens::characters(["", "a", "b", "c"], 0).unwrap();
        // First "a" or "b", then nothing in doubt for thousands of tokens.
        let probs = Array2::from_shape_fn((20_000, 4), |(t, v)| match (t, v) {
            (0, 1) => 0.6,
            (0, 2) => 0.4,
            (0, _) => 0.0,
            _ if v == t % 4 => 1.0,
            _ => 0.0,
        });
        let mut beam = beam(3, tokens.len());
        let mut most = 0;
        let scores = LogProbs::from_probs(probs.view());
        let mut scratch = Vec::new();
        for t in 0..probs.nrows() {
            beam.step(&frame::read(&scores, t, 0, 0, &mut scratch).unwrap());
            most = most.max(beam.size().0);
        }
        assert!(most < 3 * MOST_TENTATIVE as usize, "{most} nodes");
        let readings: Vec<Hypothesis> = beam.readings().collect();
        assert_eq!(readings.len(), 1);
        assert_eq!(readings[0].tokens[0].id, 1);
        assert!(readings[0].score < 0.7f64.ln(), "{}", readings[0].score);
        assert!(readings[0].tokens.len() > 14_000);
    }
}
