//! The prefixes in the beam: masses, identities and alignments in parallel arrays, one place ("slot") each.
//!
//! Most frames of real input are blanks that change no prefix, only masses. What such a frame needs is kept
//! together and updated where it stands; nothing else is touched.

use super::align::{Alignments, Trace};
use super::prefix::{NONE, PrefixTree, ROOT};

/// The part of a prefix's mass that an alignment must have to be followed: where nobody says the last token, it begins
/// anew in every frame, with hardly any mass, and the next time it is said begins it anew in any case.
const WORTH_FOLLOWING: f64 = 1e-3;

/// The most prefixes that room is made for ahead of time.
const MOST_ROOM: usize = 1 << 10;

/// What a prefix sums up: alignments that end in a blank, and in its last token.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mass {
    pub blank: f64,
    pub label: f64,
}

impl Mass {
    pub const NONE: Self = Self {
        blank: 0.0,
        label: 0.0,
    };

    pub fn total(self) -> f64 {
        self.blank + self.label
    }
}

/// Which prefix stands in a slot.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Prefix {
    /// What the guide multiplies the prefix by, over its parent.
    pub gain: f64,
    pub node: u32,
    /// Its node without the last token.
    pub parent: u32,
    /// The slot of that one, [`NONE`] where it is not in the beam.
    pub parent_slot: u32,
    /// The last token; of the empty prefix the blank, which no token repeats.
    pub last: u32,
}

/// The best alignments of a prefix.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Traces {
    /// The one that ends in a blank.
    pub blank: Trace,
    /// The link of the one that ends in the last token, with the current frame.
    pub label_link: u32,
    /// The highest probability of the last token on it.
    pub label_peak: f32,
}

#[derive(Debug, Clone)]
pub(crate) struct Entries {
    pub masses: Vec<Mass>,
    /// The masses after the current frame.
    pub fresh: Vec<Mass>,
    pub prefixes: Vec<Prefix>,
    pub traces: Vec<Traces>,
    /// Which tokens lead from each prefix to another one in the beam: bit `token % 64` is set.
    children: Vec<u64>,
    /// The probability of each prefix's last token in the current frame.
    peaks: Vec<f32>,
    /// Slots whose last token begins anew in the current frame, and the link that it gets.
    restarts: Vec<(u32, u32)>,
}

/// The range of the masses after a frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extremes {
    pub best: f64,
    pub worst: f64,
}

impl Entries {
    /// The empty prefix alone, with all the mass, and room for `width` prefixes.
    pub fn new(blank: u32, width: usize) -> Self {
        let room = width.min(MOST_ROOM);
        let mut entries = Self {
            masses: Vec::with_capacity(room),
            fresh: Vec::with_capacity(room),
            prefixes: Vec::with_capacity(room),
            traces: Vec::with_capacity(room),
            children: Vec::with_capacity(room),
            peaks: Vec::with_capacity(room),
            restarts: Vec::new(),
        };
        let mass = Mass {
            blank: 1.0,
            label: 0.0,
        };
        let prefix = Prefix {
            gain: 1.0,
            node: ROOT,
            parent: NONE,
            parent_slot: NONE,
            last: blank,
        };
        let traces = Traces {
            blank: Trace::EMPTY,
            label_link: NONE,
            label_peak: 0.0,
        };
        entries.push(mass, prefix, traces);
        entries.children.push(0);
        entries
    }

    pub fn len(&self) -> usize {
        self.prefixes.len()
    }

    /// The mass that a prefix hands to its extension by `token`: a repeated token needs a blank between.
    #[inline]
    pub fn handed(&self, slot: usize, token: u32) -> f64 {
        let mass = self.masses[slot];
        if token == self.prefixes[slot].last {
            mass.blank
        } else {
            mass.total()
        }
    }

    /// The alignment that an extension of a prefix by `token` continues, `now` being the current frame.
    pub fn continued(&self, slot: usize, token: u32, now: u64) -> Trace {
        if token == self.prefixes[slot].last {
            self.traces[slot].blank
        } else {
            self.trace(slot, now)
        }
    }

    /// The better alignment of a prefix, `now` being the number of frames before the current one.
    pub fn trace(&self, slot: usize, now: u64) -> Trace {
        let Mass { blank, label } = self.masses[slot];
        let traces = self.traces[slot];
        if blank > label {
            traces.blank
        } else {
            Trace {
                link: traces.label_link,
                peak: traces.label_peak,
                end: now,
            }
        }
    }

    /// Whether the extension of a prefix by `token` may be in the beam; certainly not where this is false.
    #[inline]
    pub fn may_have_child(&self, slot: usize, token: u32) -> bool {
        self.children[slot] >> (token % 64) & 1 != 0
    }

    /// Computes the masses after the current frame, without new prefixes. `prob` gives a token's probability.
    #[inline]
    pub fn carry(
        &mut self,
        blank_prob: f64,
        now: u64,
        alignments: &mut Alignments,
        mut prob: impl FnMut(u32) -> f32,
    ) -> Extremes {
        let (mut best, mut worst) = (0.0f64, f64::INFINITY);
        let count = self.prefixes.len();
        self.fresh.resize(count, Mass::NONE);
        self.peaks.resize(count, 0.0);
        self.restarts.clear();
        // Slices of one length: the loop needs no checks but the one of the parent's slot.
        let (masses, prefixes) = (&self.masses[..count], &self.prefixes[..count]);
        let (fresh, peaks) = (&mut self.fresh[..count], &mut self.peaks[..count]);
        for slot in 0..count {
            let (mass, prefix) = (masses[slot], prefixes[slot]);
            peaks[slot] = prob(prefix.last);
            let prob = f64::from(peaks[slot]);
            let mut label = mass.label * prob;
            let blank = mass.total() * blank_prob;
            if let Some(parent) = masses.get(prefix.parent_slot as usize) {
                let repeats = prefixes[prefix.parent_slot as usize].last == prefix.last;
                let handed = if repeats {
                    parent.blank
                } else {
                    parent.total()
                };
                let received = handed * prob * prefix.gain;
                if received > label && received > blank * WORTH_FOLLOWING {
                    self.restarts.push((slot as u32, NONE));
                }
                label += received;
            }
            let next = Mass { blank, label };
            let total = next.total();
            best = if total > best { total } else { best };
            worst = if total < worst { total } else { worst };
            fresh[slot] = next;
        }
        for at in 0..self.restarts.len() {
            let slot = self.restarts[at].0 as usize;
            let prefix = self.prefixes[slot];
            let trace = self.continued(prefix.parent_slot as usize, prefix.last, now);
            self.restarts[at].1 = alignments.extend(trace, now);
        }
        Extremes { best, worst }
    }

    /// Moves the alignments through the current frame and makes the fresh masses the current ones.
    #[inline]
    pub fn settle(&mut self, now: u64) {
        let count = self.masses.len();
        let (masses, peaks) = (&self.masses[..count], &self.peaks[..count]);
        let traces = &mut self.traces[..count];
        for slot in 0..count {
            let traces = &mut traces[slot];
            if masses[slot].label >= masses[slot].blank {
                traces.blank = Trace {
                    link: traces.label_link,
                    peak: traces.label_peak,
                    end: now,
                };
            }
            let peak = peaks[slot];
            traces.label_peak = if peak > traces.label_peak {
                peak
            } else {
                traces.label_peak
            };
        }
        for &(slot, link) in &self.restarts {
            let slot = slot as usize;
            let traces = &mut self.traces[slot];
            (traces.label_link, traces.label_peak) = (link, self.peaks[slot]);
        }
        std::mem::swap(&mut self.masses, &mut self.fresh);
    }

    /// Puts a prefix into the slot of one that was dropped.
    pub fn replace(&mut self, slot: usize, mass: Mass, prefix: Prefix, traces: Traces) {
        self.masses[slot] = mass;
        self.prefixes[slot] = prefix;
        self.traces[slot] = traces;
    }

    /// Puts a prefix into a new slot.
    pub fn push(&mut self, mass: Mass, prefix: Prefix, traces: Traces) {
        self.masses.push(mass);
        self.prefixes.push(prefix);
        self.traces.push(traces);
    }

    /// Gives up a slot; the last prefix moves into it.
    pub fn remove(&mut self, slot: usize) {
        self.masses.swap_remove(slot);
        self.prefixes.swap_remove(slot);
        self.traces.swap_remove(slot);
    }

    /// Writes down which slots the prefixes are in, after some have changed places.
    pub fn index(&mut self, tree: &mut PrefixTree) {
        for (slot, prefix) in (0u32..).zip(&self.prefixes) {
            tree.set_slot(prefix.node, slot);
        }
        self.children.clear();
        self.children.resize(self.prefixes.len(), 0);
        for prefix in &mut self.prefixes {
            prefix.parent_slot = match prefix.parent {
                NONE => NONE,
                parent => tree.node(parent).slot,
            };
            if let Some(tokens) = self.children.get_mut(prefix.parent_slot as usize) {
                *tokens |= 1 << (prefix.last % 64);
            }
        }
    }

    /// Drops the prefixes that `stays` does not keep.
    pub fn retain(
        &mut self,
        tree: &mut PrefixTree,
        mut stays: impl FnMut(&PrefixTree, u32) -> bool,
    ) {
        for slot in (0..self.len()).rev() {
            let node = self.prefixes[slot].node;
            if !stays(tree, node) {
                tree.set_slot(node, NONE);
                self.remove(slot);
            }
        }
        self.index(tree);
    }

    /// The slot of the prefix with the most mass.
    pub fn best(&self) -> Option<usize> {
        (0..self.len()).max_by(|&a, &b| {
            let mass = |slot: usize| self.masses[slot].total();
            let by_mass = mass(a).total_cmp(&mass(b));
            by_mass.then_with(|| self.prefixes[b].node.cmp(&self.prefixes[a].node))
        })
    }
}
