//! Prefix beam search: the most probable token sequences, each with *all* its alignments summed up.
//!
//! For every prefix l the search keeps two masses after t frames: `blank(l)`, the sum over alignments that end in
//! a blank, and `label(l)`, over those that end in l's last token. With `p(c)` the frame's probabilities,
//!
//! ```text
//! blank'(l)  = (blank(l) + label(l)) p(blank)
//! label'(l)  = label(l) p(last l) + m p(last l) g(l)      m = blank(k) where k ends in last l, else blank(k)
//! + label(k)
//! ```
//!
//! with k the prefix that l extends by one token, and g what language model and the like multiply l by.
//! (Hannun et al., "First-Pass Large Vocabulary Continuous Speech Recognition using Bi-Directional Recurrent
//! DNNs", 2014.) Masses are plain f64 over a common power of two, not logarithms: a frame costs
//! multiplications and additions only, and what underflows is `e^-700` of the best prefix.
//!
//! Merging is exact: a prefix that is in the beam always receives the mass of its parent, shortlisted token
//! or not. A new prefix is looked at only if it can beat what is in the beam already, which loses nothing.

use super::align::{Alignments, Link, Trace};
use super::commit::room_for;
use super::entries::{Entries, Extremes, Mass, Prefix, Traces};
use super::frame::Frame;
use super::guide::{Guide, State};
use super::prefix::{NONE, Node, PrefixTree};
use super::ranking::{Cut, Ranking};
use super::shortlist::{Limits, Shortlist};
use crate::transcript::{FrameSpan, TokenSpan};
use std::sync::{Arc, Mutex};

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
    /// Whether the width is that of each length: where a whole text is prescribed, the many improbable short
    /// prefixes must not crowd out the few that are nearly complete.
    pub by_length: bool,
}

/// The large tables of a search that has ended, for the next one: to get as much from the system anew for each utterance
/// takes up to a quarter of the time of a search.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    nodes: Vec<Node>,
    states: Vec<State>,
    links: Vec<Link>,
}

/// The memory that the searches of a plan leave to one another.
pub(crate) type Spare = Arc<Mutex<Vec<Memory>>>;

/// The most searches whose memory is kept.
const MOST_SPARE: usize = 8;

/// A prefix that is not in the beam and may get in.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    mass: f64,
    gain: f64,
    /// Slot of the prefix it extends.
    from: u32,
    token: u32,
    prob: f32,
}

/// The state of a prefix beam search.
#[derive(Debug, Clone)]
pub(crate) struct Beam {
    pub(super) settings: BeamSettings,
    blank: u32,
    pub(super) guide: Option<Arc<Guide>>,
    pub(super) tree: PrefixTree,
    /// The guide's state at each node; empty without a guide.
    pub(super) states: Vec<State>,
    pub(super) alignments: Alignments,
    pub(super) entries: Entries,
    candidates: Vec<Candidate>,
    /// The whole mass of each prefix before the current frame.
    totals: Vec<f64>,
    /// Slots whose prefix is heavy enough for the pick at hand.
    heavy: Vec<u32>,
    /// Slots whose prefix is dropped in the current frame.
    holes: Vec<u32>,
    /// Prefixes that get in, with what they need of the one they extend.
    newcomers: Vec<(Mass, Prefix, Traces)>,
    ranking: Ranking,
    /// What the ranking said in this frame, and of how many candidates.
    last_cut: Option<(usize, Option<Cut>)>,
    shortlist: Shortlist,
    pub(super) frames: u64,
    /// The largest mass.
    heaviest: f64,
    /// True masses are those kept times `LARGE` to the power of minus this.
    scale: u64,
    /// Tokens that every prefix begins with, up to the tree's root, and not taken yet.
    pub(super) committed: Vec<TokenSpan<FrameSpan>>,
    /// Where the last token ends that was committed, taken or not.
    pub(super) committed_end: u64,
    /// When to look for dead nodes and links next.
    pub(super) compact_at: usize,
    /// The deepest node made since the tree was last compacted.
    pub(super) deepest: u32,
    /// Where the memory goes in the end.
    spare: Spare,
}

impl Drop for Beam {
    fn drop(&mut self) {
        let memory = Memory {
            nodes: self.tree.take_memory(),
            states: std::mem::take(&mut self.states),
            links: self.alignments.take_memory(),
        };
        if let Ok(mut spare) = self.spare.lock()
            && spare.len() < MOST_SPARE
        {
            spare.push(memory);
        }
    }
}

impl Beam {
    pub fn new(
        vocabulary: usize,
        blank: u32,
        settings: BeamSettings,
        guide: Option<Arc<Guide>>,
        spare: &Spare,
    ) -> Self {
        let room = room_for(settings.width);
        let hint = settings.width.min(1 << 10);
        let found = spare.lock().ok().and_then(|mut spare| spare.pop());
        let Memory {
            nodes,
            mut states,
            links,
        } = found.unwrap_or_default();
        states.clear();
        if let Some(guide) = &guide {
            states.reserve(room);
            states.push(guide.start());
        }
        Self {
            settings,
            blank,
            guide,
            tree: PrefixTree::within(nodes, room),
            states,
            alignments: Alignments::within(links, room),
            entries: Entries::new(blank, settings.width),
            candidates: Vec::with_capacity(hint),
            totals: Vec::with_capacity(hint),
            heavy: Vec::with_capacity(hint),
            holes: Vec::with_capacity(hint),
            newcomers: Vec::with_capacity(hint),
            ranking: Ranking::default(),
            last_cut: None,
            shortlist: Shortlist::new(vocabulary),
            frames: 0,
            heaviest: 1.0,
            scale: 0,
            committed: Vec::new(),
            committed_end: 0,
            compact_at: room,
            deepest: 0,
            spare: Arc::clone(spare),
        }
    }

    /// Takes in the next frame.
    pub fn step(&mut self, frame: &Frame<'_>) {
        self.shortlist.next_frame(frame);
        let blank_prob = f64::from(self.shortlist.prob(frame, self.blank));
        let now = self.frames;
        let blank_mass = blank_prob * self.settings.blank_factor;
        let (entries, alignments) = (&mut self.entries, &mut self.alignments);
        let carried = match self.shortlist.all_probs() {
            Some(probs) => entries.carry(blank_mass, now, alignments, |id| probs[id as usize]),
            None => entries.carry(blank_mass, now, alignments, |id| {
                self.shortlist.prob(frame, id)
            }),
        };
        self.last_cut = None;
        self.pick(frame);
        let mut best = carried.best;
        if !self.shortlist.picks().is_empty() {
            best = self.extend(carried);
        }
        let changes = !self.candidates.is_empty() || carried.worst <= best * self.settings.least;
        if changes {
            self.choose(best);
        }
        self.entries.settle(now);
        if changes {
            self.rearrange();
        }
        self.frames += 1;
        self.rescale(best);
        self.bound_memory();
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

    /// Finds the new prefixes that may get into the beam. Returns the largest mass after the frame.
    fn extend(&mut self, carried: Extremes) -> f64 {
        let width = self.settings.width;
        let mut best = carried.best;
        let full = self.entries.len() >= width && !self.settings.by_length;
        let mut bar = carried.best * self.settings.least;
        if full {
            bar = bar.max(carried.worst);
        }
        // When so many are found, the bar is raised to what the beam would keep of them.
        let mut crowd = if self.settings.by_length {
            usize::MAX
        } else {
            width / 2
        };
        self.totals.clear();
        self.totals
            .extend(self.entries.masses.iter().map(|mass| mass.total()));
        for at in 0..self.shortlist.picks().len() {
            let pick = self.shortlist.picks()[at];
            // Picks come with the farthest reach first.
            if self.heaviest * pick.reach <= bar {
                break;
            }
            if self.candidates.len() > crowd {
                bar = self.cut(best).map_or(bar, |cut| cut.mass.max(bar));
                crowd = self.candidates.len() + width;
            }
            let masses = self.totals.iter().map(|total| total * pick.reach > bar);
            select(&mut self.heavy, masses);
            for at in 0..self.heavy.len() {
                let slot = self.heavy[at] as usize;
                let handed = self.entries.handed(slot, pick.id);
                let node = self.entries.prefixes[slot].node;
                if self.entries.may_have_child(slot, pick.id) && self.is_in(node, pick.id) {
                    continue;
                }
                let gain = match &self.guide {
                    None => 1.0,
                    Some(guide) => match guide.factor(&self.states[node as usize], pick.id) {
                        Some(factor) => factor,
                        None => continue,
                    },
                };
                let mass = handed * pick.prob * gain;
                if mass > bar {
                    best = if mass > best { mass } else { best };
                    self.candidates.push(Candidate {
                        mass,
                        gain,
                        from: slot as u32,
                        token: pick.id,
                        prob: pick.prob as f32,
                    });
                }
            }
        }
        best
    }

    /// Whether the extension of a prefix by `token` is in the beam.
    fn is_in(&self, node: u32, token: u32) -> bool {
        let child = self.tree.child(node, token);
        child.is_some_and(|child| self.tree.node(child).slot != NONE)
    }

    /// Where the beam's width cuts what is in it and what may get in; none where all have room.
    fn cut(&mut self, best: f64) -> Option<Cut> {
        // Often nothing has come since it was last asked.
        if let Some((candidates, cut)) = self.last_cut
            && candidates == self.candidates.len()
        {
            return cut;
        }
        let carried = self.entries.fresh.iter().map(|mass| mass.total());
        let candidates = self.candidates.iter().map(|candidate| candidate.mass);
        let cut = (self.ranking).cut(carried, candidates, best, self.settings.width);
        self.last_cut = Some((self.candidates.len(), cut));
        cut
    }

    /// Chooses what stays and what gets in: the heaviest, none lighter than a part of the best.
    fn choose(&mut self, best: f64) {
        if self.settings.by_length {
            let kept = self.kept_by_length();
            let mut kept = kept.into_iter();
            return self.divide(|mass| kept.next().unwrap_or(false) & (mass > 0.0));
        }
        let mut bar = best * self.settings.least;
        let mut room = self.settings.width;
        if let Some(cut) = self.cut(best)
            && cut.mass > bar
        {
            bar = cut.mass;
            room -= cut.above;
        }
        // Of equals at the width's cut, the oldest stay; what has no mass never does.
        if bar <= 0.0 {
            room = 0;
        }
        self.divide(|mass| {
            let tied = (mass == bar) & (room > 0);
            room -= usize::from(tied);
            (mass > bar) | tied
        });
    }

    /// Which of the prefixes in the beam, and after them of the candidates, are among the heaviest of their length.
    fn kept_by_length(&self) -> Vec<bool> {
        let total = self.entries.len() + self.candidates.len();
        let Some(guide) = &self.guide else {
            return vec![true; total];
        };
        let state = |slot: usize| self.states[self.entries.prefixes[slot].node as usize];
        let inside = (self.entries.fresh.iter().enumerate())
            .map(|(slot, mass)| (guide.length(&state(slot)), mass.total()));
        let outside = self.candidates.iter().map(|candidate| {
            let next = guide.next(&state(candidate.from as usize), candidate.token);
            (guide.length(&next), candidate.mass)
        });
        let ranked: Vec<(u32, f64)> = inside.chain(outside).collect();
        // Most often all have room.
        let width = self.settings.width;
        let mut counts: Vec<usize> = Vec::new();
        for (length, _) in &ranked {
            let length = *length as usize;
            if length >= counts.len() {
                counts.resize(length + 1, 0);
            }
            counts[length] += 1;
        }
        if counts.iter().all(|&count| count <= width) {
            return vec![true; total];
        }
        let mut order: Vec<usize> = (0..total).collect();
        // Of equals the oldest stay, for the sort is stable.
        order.sort_by(|&a, &b| {
            let (a, b) = (ranked[a], ranked[b]);
            a.0.cmp(&b.0).then(b.1.total_cmp(&a.1))
        });
        let mut kept = vec![false; total];
        for same in order.chunk_by(|&a, &b| ranked[a].0 == ranked[b].0) {
            for &place in &same[..same.len().min(width)] {
                kept[place] = true;
            }
        }
        kept
    }

    /// Drops prefixes and makes candidates newcomers: `stays` is asked about each, in order.
    fn divide(&mut self, mut stays: impl FnMut(f64) -> bool) {
        let dropped = self.entries.fresh.iter().map(|mass| !stays(mass.total()));
        select(&mut self.holes, dropped);
        for &hole in &self.holes {
            let prefix = &self.entries.prefixes[hole as usize];
            self.tree.set_slot(prefix.node, NONE);
        }
        let admitted = (self.candidates.iter()).map(|candidate| stays(candidate.mass));
        select(&mut self.heavy, admitted);
        for at in 0..self.heavy.len() {
            self.admit(self.candidates[self.heavy[at] as usize]);
        }
        self.candidates.clear();
    }

    /// Makes a candidate a newcomer.
    fn admit(&mut self, candidate: Candidate) {
        let from = candidate.from as usize;
        let parent = self.entries.prefixes[from].node;
        let (node, new) = self.tree.child_or_new(parent, candidate.token);
        if new {
            if let Some(guide) = &self.guide {
                let state = guide.next(&self.states[parent as usize], candidate.token);
                self.states.push(state);
            }
            self.deepest = self.deepest.max(self.tree.node(node).depth);
        }
        let trace = self.entries.continued(from, candidate.token, self.frames);
        let mass = Mass {
            blank: 0.0,
            label: candidate.mass,
        };
        let prefix = Prefix {
            gain: candidate.gain,
            node,
            parent,
            parent_slot: NONE,
            last: candidate.token,
        };
        let traces = Traces {
            blank: Trace::EMPTY,
            label_link: self.alignments.extend(trace, self.frames),
            label_peak: candidate.prob,
        };
        self.newcomers.push((mass, prefix, traces));
    }

    /// Puts the newcomers into the holes and closes what is left open.
    fn rearrange(&mut self) {
        for (mass, prefix, traces) in self.newcomers.drain(..) {
            match self.holes.pop() {
                Some(hole) => self.entries.replace(hole as usize, mass, prefix, traces),
                None => self.entries.push(mass, prefix, traces),
            }
        }
        // The last holes first, so that what moves into one is never itself dropped.
        while let Some(hole) = self.holes.pop() {
            self.entries.remove(hole as usize);
        }
        self.entries.index(&mut self.tree);
    }

    /// Scales all masses up where the best has become small, by a power of two.
    fn rescale(&mut self, best: f64) {
        self.heaviest = best;
        while 0.0 < self.heaviest && self.heaviest < SMALL {
            for mass in &mut self.entries.masses {
                mass.blank *= LARGE;
                mass.label *= LARGE;
            }
            self.heaviest *= LARGE;
            self.scale += 1;
        }
    }

    /// The natural logarithm of a mass of this frame.
    pub(super) fn log(&self, mass: f64) -> f64 {
        mass.ln() - self.scale as f64 * LARGE.ln()
    }
}

/// Lists the places of what is true: without branches, because which ones are cannot be foretold.
fn select(places: &mut Vec<u32>, flags: impl ExactSizeIterator<Item = bool>) {
    places.clear();
    places.resize(flags.len(), 0);
    let mut found = 0;
    for (place, flag) in (0u32..).zip(flags) {
        places[found] = place;
        found += usize::from(flag);
    }
    places.truncate(found);
}
