//! Prefix beam search: the most probable token sequences, each with *all* its alignments summed up.
//!
//! For every prefix l the search keeps two masses after t frames: `blank(l)`, the sum over alignments that end in
//! a blank, and `label(l)`, over those that end in l's last token. With `p(c)` the frame's probabilities,
//!
//! ```text
//! blank'(l)  = (blank(l) + label(l)) p(blank)
//! label'(l)  = label(l) p(last l) + m p(last l) g(l)      m = blank(k) where k ends in last l, else blank(k) + label(k)
//! ```
//!
//! with k the prefix that l extends by one token, and g what language model and the like multiply l by.
//! (Hannun et al., "First-Pass Large Vocabulary Continuous Speech Recognition using Bi-Directional Recurrent
//! DNNs", 2014.) Masses are plain f64 over a common power of two, not logarithms: a frame costs
//! multiplications and additions only, and what underflows is `e^-700` of the best prefix.
//!
//! Merging is exact: a prefix that is in the beam always receives the mass of its parent, shortlisted token
//! or not. A new prefix is looked at only if it can beat what is in the beam already, which loses nothing.

use super::align::{Alignments, Trace};
use super::commit::COMPACT_FROM;
use super::frame::Frame;
use super::guide::{Guide, State};
use super::prefix::{NONE, PrefixTree, ROOT};
use super::shortlist::{Limits, Shortlist};
use crate::transcript::{FrameSpan, TokenSpan};
use std::sync::Arc;

/// Masses are scaled up when the largest falls below this, by its inverse: a power of two, so nothing is rounded.
const SMALL: f64 = 1.0 / LARGE;
const LARGE: f64 = (1u128 << 100) as f64;

/// What a search is limited by. Infinite limits make it exhaustive.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct BeamSettings {
    /// Prefixes kept per frame.
    pub width: usize,
    /// Prefixes whose mass is less than this part of the best one's are dropped.
    pub least: f64,
    pub tokens: Limits,
    /// What the blank's probability is multiplied by.
    pub blank_factor: f64,
}

/// A prefix in the beam: one cache line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub blank: f64,
    pub label: f64,
    /// What the guide multiplies the prefix by, over its parent.
    pub gain: f64,
    pub node: u32,
    pub parent: u32,
    /// The last token; of the empty prefix the blank, which no token repeats.
    pub last: u32,
    /// The best alignment that ends in the last token: it ends with the current frame.
    pub label_link: u32,
    pub label_peak: f32,
    /// The best alignment that ends in a blank.
    pub blank_trace: Trace,
}

impl Entry {
    pub fn mass(&self) -> f64 {
        self.blank + self.label
    }

    /// The better alignment of either ending, `now` being the number of frames.
    pub fn trace(&self, now: u64) -> Trace {
        if self.blank > self.label {
            self.blank_trace
        } else {
            Trace {
                link: self.label_link,
                peak: self.label_peak,
                end: now,
            }
        }
    }

    /// The mass that the prefix hands to its extension by `token`: a repeated token needs a blank between.
    fn handed(&self, token: u32) -> f64 {
        if token == self.last {
            self.blank
        } else {
            self.mass()
        }
    }

    /// The alignment that an extension by `token` continues.
    fn continued(&self, token: u32, now: u64) -> Trace {
        if token == self.last {
            self.blank_trace
        } else {
            self.trace(now)
        }
    }
}

/// A prefix that is not in the beam and may get in.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    mass: f64,
    gain: f64,
    /// Slot of the prefix it extends.
    from: u32,
    token: u32,
    /// Its node, where it has been met before.
    node: u32,
    prob: f32,
    state: State,
}

/// The state of a prefix beam search.
#[derive(Debug, Clone)]
pub(crate) struct Beam {
    settings: BeamSettings,
    blank: u32,
    pub(super) guide: Option<Arc<Guide>>,
    pub(super) tree: PrefixTree,
    /// The guide's state at each node; empty without a guide.
    pub(super) states: Vec<State>,
    pub(super) alignments: Alignments,
    pub(super) entries: Vec<Entry>,
    /// What becomes of the entries in the current frame, in the same slots.
    fresh: Vec<Entry>,
    candidates: Vec<Candidate>,
    /// Slots whose prefix was dropped.
    holes: Vec<u32>,
    ranking: Vec<u64>,
    shortlist: Shortlist,
    pub(super) frames: u64,
    /// True masses are those kept times `LARGE` to the power of minus this.
    pub(super) scale: u64,
    /// Tokens that every prefix begins with, up to the tree's root, and not taken yet.
    pub(super) committed: Vec<TokenSpan<FrameSpan>>,
    /// Where the last token ends that was committed, taken or not.
    pub(super) committed_end: u64,
    /// When to look for dead nodes and links next.
    pub(super) compact_at: usize,
    /// The deepest node made since the tree was last compacted.
    pub(super) deepest: u32,
}

impl Beam {
    pub fn new(
        vocabulary: usize,
        blank: u32,
        settings: BeamSettings,
        guide: Option<Arc<Guide>>,
    ) -> Self {
        let states = guide.iter().map(|guide| guide.start()).collect();
        let empty = Entry {
            blank: 1.0,
            label: 0.0,
            gain: 1.0,
            node: ROOT,
            parent: NONE,
            last: blank,
            label_link: NONE,
            label_peak: 0.0,
            blank_trace: Trace::EMPTY,
        };
        Self {
            settings,
            blank,
            guide,
            tree: PrefixTree::new(),
            states,
            alignments: Alignments::default(),
            entries: vec![empty],
            fresh: Vec::new(),
            candidates: Vec::new(),
            holes: Vec::new(),
            ranking: Vec::new(),
            shortlist: Shortlist::new(vocabulary),
            frames: 0,
            scale: 0,
            committed: Vec::new(),
            committed_end: 0,
            compact_at: COMPACT_FROM,
            deepest: 0,
        }
    }

    /// Takes in the next frame.
    pub fn step(&mut self, frame: &Frame<'_>) {
        self.shortlist.next_frame(frame);
        let (best, worst) = self.carry(frame);
        self.pick(frame);
        if !self.shortlist.picks().is_empty() {
            let full = self.fresh.len() >= self.settings.width;
            let bar = (best * self.settings.least).max(if full { worst } else { 0.0 });
            self.extend(bar);
        }
        let best = self.candidates.iter().map(|c| c.mass).fold(best, f64::max);
        if !self.candidates.is_empty() || worst <= best * self.settings.least {
            self.prune(best);
        }
        std::mem::swap(&mut self.entries, &mut self.fresh);
        self.frames += 1;
        self.rescale(best);
        self.bound_memory();
    }

    /// Moves every prefix of the beam through the frame without a new token, and lets those that extend another
    /// one receive its mass. Returns the largest and the smallest mass.
    fn carry(&mut self, frame: &Frame<'_>) -> (f64, f64) {
        let blank_prob = f64::from(self.shortlist.prob(frame, self.blank));
        let blank_prob = blank_prob * self.settings.blank_factor;
        let (mut best, mut worst) = (0.0f64, f64::INFINITY);
        self.fresh.clear();
        for entry in &self.entries {
            let peak = self.shortlist.prob(frame, entry.last);
            let prob = f64::from(peak);
            let repeated = entry.label * prob;
            let mut next = Entry {
                blank: entry.mass() * blank_prob,
                label: repeated,
                blank_trace: entry.trace(self.frames),
                label_peak: entry.label_peak.max(peak),
                ..*entry
            };
            if let Some(parent) = self.entries.get(self.slot_of(entry.parent)) {
                let received = parent.handed(entry.last) * prob * entry.gain;
                next.label += received;
                if received > repeated {
                    let trace = parent.continued(entry.last, self.frames);
                    next.label_link = self.alignments.extend(trace, self.frames);
                    next.label_peak = peak;
                }
            }
            let mass = next.mass();
            best = best.max(mass);
            worst = worst.min(mass);
            self.fresh.push(next);
        }
        (best, worst)
    }

    fn slot_of(&self, node: u32) -> usize {
        if node == NONE {
            return NONE as usize;
        }
        self.tree.node(node).slot as usize
    }

    fn pick(&mut self, frame: &Frame<'_>) {
        let limits = self.settings.tokens;
        match &self.guide {
            None => self.shortlist.pick(frame, self.blank, limits, |_| 1.0),
            Some(guide) => match guide.useful() {
                None => (self.shortlist).pick(frame, self.blank, limits, |id| guide.bound(id)),
                Some(ids) => {
                    (self.shortlist).pick_among(frame, ids, limits.most, |id| guide.bound(id));
                }
            },
        }
    }

    /// Finds the new prefixes with more mass than `bar`.
    fn extend(&mut self, mut bar: f64) {
        // When so many are found, the bar is raised to what the beam would keep of them.
        let crowd = self.settings.width.saturating_mul(3).max(64);
        for (slot, entry) in (0u32..).zip(&self.entries) {
            let mass = entry.mass();
            for pick in self.shortlist.picks() {
                if mass * pick.reach <= bar {
                    break;
                }
                let source = entry.handed(pick.id) * pick.prob;
                if source * (pick.reach / pick.prob) <= bar {
                    continue;
                }
                let met = self.tree.child(entry.node, pick.id);
                if met.is_some_and(|node| self.tree.node(node).slot != NONE) {
                    continue;
                }
                let (gain, state) = match &self.guide {
                    None => (1.0, State::default()),
                    Some(guide) => match guide.step(self.states[entry.node as usize], pick.id) {
                        Some((state, gain)) => (gain.exp(), state),
                        None => continue,
                    },
                };
                let mass = source * gain;
                if mass > bar {
                    self.candidates.push(Candidate {
                        mass,
                        gain,
                        from: slot,
                        token: pick.id,
                        node: met.unwrap_or(NONE),
                        prob: pick.prob as f32,
                        state,
                    });
                }
            }
            if self.candidates.len() > crowd {
                bar = bar.max(kept_from(
                    &mut self.ranking,
                    &self.fresh,
                    &self.candidates,
                    self.settings.width,
                ));
                self.candidates.retain(|candidate| candidate.mass > bar);
            }
        }
    }

    /// Drops what is too small or too many and puts the remaining candidates into the places that are free.
    fn prune(&mut self, best: f64) {
        let least = best * self.settings.least;
        let mut bar = least;
        if self.fresh.len() + self.candidates.len() > self.settings.width {
            let width = self.settings.width;
            bar = bar.max(kept_from(
                &mut self.ranking,
                &self.fresh,
                &self.candidates,
                width,
            ));
        }
        // Of equals at the bar, the oldest stay.
        let above = |mass: f64| mass > bar;
        let mut room = self.settings.width;
        room -= self
            .fresh
            .iter()
            .filter(|entry| above(entry.mass()))
            .count();
        room -= self.candidates.iter().filter(|c| above(c.mass)).count();
        let mut admit = |mass: f64| {
            if above(mass) {
                return true;
            }
            let admitted = mass == bar && mass > 0.0 && room > 0;
            room -= usize::from(admitted);
            admitted
        };
        self.holes.clear();
        for (slot, entry) in (0u32..).zip(&self.fresh) {
            if !admit(entry.mass()) {
                self.tree.set_slot(entry.node, NONE);
                self.holes.push(slot);
            }
        }
        let mut candidates = std::mem::take(&mut self.candidates);
        for candidate in candidates.drain(..) {
            if admit(candidate.mass) {
                self.admit(candidate);
            }
        }
        self.candidates = candidates;
        // The last holes first, so that what moves into one is never itself dropped.
        while let Some(hole) = self.holes.pop() {
            self.fresh.swap_remove(hole as usize);
            if let Some(moved) = self.fresh.get(hole as usize) {
                self.tree.set_slot(moved.node, hole);
            }
        }
    }

    /// Puts a new prefix into the beam.
    fn admit(&mut self, candidate: Candidate) {
        let parent = self.entries[candidate.from as usize];
        let node = if candidate.node == NONE {
            if self.guide.is_some() {
                self.states.push(candidate.state);
            }
            let node = self.tree.insert(parent.node, candidate.token);
            self.deepest = self.deepest.max(self.tree.node(node).depth);
            node
        } else {
            candidate.node
        };
        let trace = parent.continued(candidate.token, self.frames);
        let entry = Entry {
            blank: 0.0,
            label: candidate.mass,
            gain: candidate.gain,
            node,
            parent: parent.node,
            last: candidate.token,
            label_link: self.alignments.extend(trace, self.frames),
            label_peak: candidate.prob,
            blank_trace: Trace::EMPTY,
        };
        let slot = match self.holes.pop() {
            Some(hole) => {
                self.fresh[hole as usize] = entry;
                hole
            }
            None => {
                self.fresh.push(entry);
                self.fresh.len() as u32 - 1
            }
        };
        self.tree.set_slot(node, slot);
    }

    /// Scales all masses up where the best has become small, by a power of two.
    fn rescale(&mut self, mut best: f64) {
        while 0.0 < best && best < SMALL {
            for entry in &mut self.entries {
                entry.blank *= LARGE;
                entry.label *= LARGE;
            }
            best *= LARGE;
            self.scale += 1;
        }
    }

    /// The natural logarithm of a mass of this frame.
    pub(super) fn log(&self, mass: f64) -> f64 {
        mass.ln() - self.scale as f64 * LARGE.ln()
    }
}

/// The mass of the `width`-th best of entries and candidates; there are more than `width`.
fn kept_from(
    ranking: &mut Vec<u64>,
    entries: &[Entry],
    candidates: &[Candidate],
    width: usize,
) -> f64 {
    // The bits of positive floats are ordered as the floats are.
    ranking.clear();
    ranking.extend(entries.iter().map(|entry| entry.mass().to_bits()));
    ranking.extend(candidates.iter().map(|candidate| candidate.mass.to_bits()));
    if width == 0 || ranking.len() <= width {
        return 0.0;
    }
    let (_, kept, _) = ranking.select_nth_unstable_by(width - 1, |a, b| b.cmp(a));
    f64::from_bits(*kept)
}
