//! Batches: which items, in which shapes, in which order.
//!
//! A graph and its buffers are made once for each shape `[B, T]`, so an epoch uses few of them: T is one of at
//! most a dozen widths, and B follows from T. The widths minimize the padding over the data's own lengths
//! (an optimal one-dimensional partition, found by dynamic programming). Within a width, items are shuffled; the
//! few that do not fill a batch move up to the next width, so that only one batch of an epoch is partial.

use crate::config::Recipe;
use ndarray::Array4;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::ops::Range;

/// The most candidate widths considered; a coarser multiple is taken for longer data.
const MAX_CANDIDATES: usize = 512;

/// What shapes batches may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchOptions {
    /// Frames in a batch, padding included; a single longer item still makes a batch.
    pub batch_frames: usize,
    /// Most items in a batch.
    pub max_batch: usize,
    /// Widths are multiples of this many frames.
    pub multiple: usize,
    /// Most distinct widths.
    pub max_shapes: usize,
    /// Frames of padding after every item, for a model whose output lags its input.
    pub tail_frames: usize,
}

impl BatchOptions {
    /// The options of a recipe: widths that a stride divides, and room for the model's delay after each item.
    pub fn from_recipe(recipe: &Recipe) -> Self {
        let stride = recipe.model.stride.max(1);
        Self {
            batch_frames: recipe.train.batch_frames,
            max_batch: recipe.train.max_batch,
            multiple: stride * 32usize.div_ceil(stride),
            max_shapes: 12,
            tail_frames: recipe.model.delay_frames * stride,
        }
    }
}

/// A batch's shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shape {
    /// Frames: T.
    pub frames: usize,
    /// Items: B.
    pub batch: usize,
}

/// The shapes of a run, shortest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shapes {
    shapes: Vec<Shape>,
    tail_frames: usize,
}

impl Shapes {
    /// The shapes that waste the least on items of `lengths` frames while none is longer than `longest`.
    pub fn fit(
        lengths: impl IntoIterator<Item = usize>,
        longest: usize,
        options: &BatchOptions,
    ) -> Self {
        let lengths: Vec<usize> = lengths
            .into_iter()
            .map(|l| l + options.tail_frames)
            .collect();
        let longest = lengths
            .iter()
            .copied()
            .fold(longest + options.tail_frames, usize::max)
            .max(1);
        let multiple = options.multiple.max(1);
        let multiple = multiple * longest.div_ceil(multiple * MAX_CANDIDATES);
        let mut counts = vec![0; longest.div_ceil(multiple)];
        for length in lengths {
            counts[length.max(1).div_ceil(multiple) - 1] += 1;
        }
        let shapes = partition(&counts, options.max_shapes.max(1))
            .into_iter()
            .map(|slot| {
                let frames = (slot + 1) * multiple;
                Shape {
                    frames,
                    batch: (options.batch_frames / frames).clamp(1, options.max_batch.max(1)),
                }
            })
            .collect();
        Self {
            shapes,
            tail_frames: options.tail_frames,
        }
    }

    /// The shapes, shortest first.
    pub fn all(&self) -> &[Shape] {
        &self.shapes
    }

    /// Index of the first shape that holds an item of `frames` frames and its tail.
    fn index(&self, frames: usize) -> usize {
        self.shapes
            .partition_point(|shape| shape.frames < frames + self.tail_frames)
            .min(self.shapes.len() - 1)
    }
}

/// The ends (last slots) of at most `most` ranges of slots that minimize `sum of counts x end`; the last slot ends
/// one of them.
fn partition(counts: &[usize], most: usize) -> Vec<usize> {
    let slots = counts.len();
    let mut before = vec![0u64; slots + 1];
    for (slot, &count) in counts.iter().enumerate() {
        before[slot + 1] = before[slot] + count as u64;
    }
    // cost[k][e]: the least cost of slots 0..e in at most k + 1 ranges; cut[k][e]: where the last of them starts.
    let single: Vec<u64> = (0..=slots).map(|end| before[end] * end as u64).collect();
    let mut cost = vec![single];
    let mut cuts = vec![vec![0; slots + 1]];
    for ranges in 1..most.min(slots) {
        let previous = &cost[ranges - 1];
        let mut costs = previous.clone();
        let mut starts = vec![0; slots + 1];
        for end in 1..=slots {
            for start in 0..end {
                let candidate = previous[start] + (before[end] - before[start]) * end as u64;
                if candidate < costs[end] || start == 0 {
                    (costs[end], starts[end]) = (candidate, start);
                }
            }
        }
        cost.push(costs);
        cuts.push(starts);
    }
    let mut ends = Vec::new();
    let (mut end, mut ranges) = (slots, cuts.len());
    while end > 0 && ranges > 0 {
        ends.push(end - 1);
        ranges -= 1;
        end = cuts[ranges][end];
    }
    ends.reverse();
    ends
}

/// An item to be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pick {
    /// Its index.
    pub item: usize,
    /// Which repetition of it within the epoch, from 0.
    pub copy: usize,
}

/// The items of an epoch: of each range of items, `repeat` times as many as it holds.
///
/// The fractional part of a repeat goes through the range in a fixed random order, epoch by epoch, so that after
/// enough epochs each item was seen equally often.
pub fn picks(sets: &[(Range<usize>, f32)], seed: u64, epoch: u64) -> Vec<Pick> {
    let mut picks = Vec::new();
    for (set, (range, repeat)) in sets.iter().enumerate() {
        let repeat = f64::from(repeat.max(0.0));
        let whole = repeat.floor() as usize;
        for copy in 0..whole {
            picks.extend(range.clone().map(|item| Pick { item, copy }));
        }
        let extra = (repeat.fract() * range.len() as f64).round() as usize;
        if extra > 0 {
            let mut order: Vec<usize> = range.clone().collect();
            order.shuffle(&mut stream(seed, 0, 1 + set as u64));
            let start = (epoch as u128 * extra as u128 % order.len() as u128) as usize;
            let chosen = order.iter().cycle().skip(start).take(extra);
            picks.extend(chosen.map(|&item| Pick { item, copy: whole }));
        }
    }
    picks
}

/// In which order an epoch's batches come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// At random, drawn from these.
    Shuffled {
        /// The recipe's seed.
        seed: u64,
        /// The epoch.
        epoch: u64,
    },
    /// The shortest first: for judging, and for a first epoch that learns easily.
    ByLength,
}

/// One batch to be loaded; it holds at most as many picks as its shape has places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedBatch {
    /// Its shape.
    pub shape: Shape,
    /// Its items.
    pub picks: Vec<Pick>,
}

/// The batches of an epoch, for items with their lengths in frames.
///
/// An item longer than the longest shape is put into that one and cut when it is loaded; [`Shapes::fit`] with the
/// true longest length rules that out.
pub fn plan(items: &[(Pick, usize)], shapes: &Shapes, order: Order) -> Vec<PlannedBatch> {
    let mut by_shape: BTreeMap<usize, Vec<(Pick, usize)>> = BTreeMap::new();
    for &(pick, frames) in items {
        by_shape
            .entry(shapes.index(frames))
            .or_default()
            .push((pick, frames));
    }
    let mut random = match order {
        Order::Shuffled { seed, epoch } => Some(stream(seed, 1 + epoch, 0)),
        Order::ByLength => None,
    };
    let mut batches = Vec::new();
    let mut left: Vec<(Pick, usize)> = Vec::new();
    let last = by_shape.keys().next_back().copied().unwrap_or(0);
    for (index, &shape) in shapes.all().iter().enumerate().take(last + 1) {
        let mut items = std::mem::take(&mut left);
        items.append(&mut by_shape.remove(&index).unwrap_or_default());
        match &mut random {
            Some(random) => items.shuffle(random),
            None => items.sort_by_key(|&(pick, frames)| (frames, pick)),
        }
        let whole = if index == last {
            items.len()
        } else {
            items.len() / shape.batch * shape.batch
        };
        left = items.split_off(whole);
        batches.extend(items.chunks(shape.batch).map(|chunk| PlannedBatch {
            shape,
            picks: chunk.iter().map(|&(pick, _)| pick).collect(),
        }));
    }
    if let Some(random) = &mut random {
        batches.shuffle(random);
    }
    batches
}

/// An independent random stream for each purpose.
fn stream(seed: u64, epoch: u64, purpose: u64) -> ChaCha8Rng {
    let mut root = ChaCha8Rng::seed_from_u64(seed);
    root.set_stream(u64::MAX);
    let mut bytes = [0; 32];
    let numbers = [root.random::<u64>(), epoch, purpose, 0];
    for (chunk, number) in bytes.chunks_exact_mut(8).zip(numbers) {
        chunk.copy_from_slice(&number.to_le_bytes());
    }
    ChaCha8Rng::from_seed(bytes)
}

/// A batch in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Features `[B, C, H, T]` (speech: C mel bands, H = 1), 0 after each item's end and in empty places.
    pub features: Array4<f32>,
    /// Frames of each item: B values, 0 in empty places.
    pub feature_lengths: Vec<usize>,
    /// Token ids of each item: B lists, empty in empty places.
    pub targets: Vec<Vec<u32>>,
    /// Name of each item, for messages: B values.
    pub names: Vec<String>,
    /// Normalized transcript of each item, to score against: B values.
    pub texts: Vec<String>,
    /// Number of items; the places from here to B are empty and carry no weight.
    pub valid: usize,
    /// Its index within the epoch.
    pub index: usize,
}

impl Batch {
    /// Its shape.
    pub fn shape(&self) -> Shape {
        let (batch, _, _, frames) = self.features.dim();
        Shape { frames, batch }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn options() -> BatchOptions {
        BatchOptions {
            batch_frames: 2_000,
            max_batch: 16,
            multiple: 32,
            max_shapes: 5,
            tail_frames: 10,
        }
    }

    fn planned(lengths: &[usize], order: Order) -> (Shapes, Vec<PlannedBatch>) {
        let shapes = Shapes::fit(lengths.iter().copied(), 0, &options());
        let items: Vec<_> = lengths
            .iter()
            .enumerate()
            .map(|(item, &frames)| (Pick { item, copy: 0 }, frames))
            .collect();
        let batches = plan(&items, &shapes, order);
        (shapes, batches)
    }

    #[test]
    fn partitions_are_optimal() {
        let counts = [3, 0, 7, 1, 0, 9, 2, 2, 0, 4];
        let cost = |ends: &[usize]| -> usize {
            let mut start = 0;
            ends.iter()
                .map(|&end| {
                    let inside: usize = counts[start..=end].iter().sum();
                    start = end + 1;
                    inside * (end + 1)
                })
                .sum()
        };
        for most in 1..=10 {
            let found = partition(&counts, most);
            assert!(found.len() <= most && found.last() == Some(&9), "{found:?}");
            let best = (0..1 << 9)
                .map(|mask: usize| {
                    let mut ends: Vec<usize> =
                        (0..9).filter(|slot| mask >> slot & 1 == 1).collect();
                    ends.push(9);
                    ends
                })
                .filter(|ends| ends.len() <= most)
                .map(|ends| cost(&ends))
                .min();
            assert_eq!(Some(cost(&found)), best, "{most}");
        }
    }

    #[test]
    fn fractional_repeats_see_every_item_equally_often() {
        let sets = [(0..10, 2.3), (10..17, 0.5), (17..20, 0.0)];
        let mut seen: HashMap<usize, usize> = HashMap::new();
        for epoch in 0..70 {
            for pick in picks(&sets, 1, epoch) {
                *seen.entry(pick.item).or_default() += 1;
            }
        }
        // 3 of 10 extra items an epoch over 70 epochs; 4 of 7 (0.5 rounded up).
        for item in 0..10 {
            assert_eq!(seen[&item], 140 + 21);
        }
        for item in 10..17 {
            assert_eq!(seen[&item], 40);
        }
        assert!(!seen.contains_key(&17));
    }

    #[test]
    fn orders_are_reproducible_and_differ_between_epochs() {
        let lengths: Vec<usize> = (0..200).map(|i| 30 + i * 7 % 400).collect();
        let shuffled = |seed, epoch| planned(&lengths, Order::Shuffled { seed, epoch }).1;
        assert_eq!(shuffled(1, 0), shuffled(1, 0));
        assert_ne!(shuffled(1, 0), shuffled(1, 1));
        assert_ne!(shuffled(1, 0), shuffled(2, 0));
        let (_, sorted) = planned(&lengths, Order::ByLength);
        assert!(sorted.is_sorted_by_key(|batch| batch.shape.frames));
    }

    #[test]
    fn a_recipe_gives_widths_that_its_stride_divides() {
        let text = "name = \"a\"\ntask = \"speech\"\nlicense = \"MIT\"\n[data]\ntrain = [{ manifest = \"m\" }]\n[model]\nstride = 3\ndelay_frames = 4";
        let options = BatchOptions::from_recipe(&Recipe::parse(text, &[] as &[&str]).unwrap());
        assert_eq!((options.multiple, options.tail_frames), (33, 12));
    }

    proptest! {
        #[test]
        fn every_item_is_in_one_batch_that_holds_it(
            lengths in proptest::collection::vec(0usize..900, 0..200),
            epoch in proptest::option::of(any::<u64>()),
        ) {
            let order = epoch.map_or(Order::ByLength, |epoch| Order::Shuffled { seed: 3, epoch });
            let (shapes, batches) = planned(&lengths, order);
            prop_assert!(shapes.all().len() <= 5);
            let mut seen: Vec<usize> = Vec::new();
            let mut partial = 0;
            for batch in &batches {
                prop_assert!(shapes.all().contains(&batch.shape));
                prop_assert!((1..=batch.shape.batch).contains(&batch.picks.len()));
                prop_assert!(batch.shape.batch == 1 || batch.shape.batch * batch.shape.frames <= 2_000);
                partial += usize::from(batch.picks.len() < batch.shape.batch);
                for pick in &batch.picks {
                    prop_assert!(lengths[pick.item] + 10 <= batch.shape.frames);
                    seen.push(pick.item);
                }
            }
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..lengths.len()).collect::<Vec<_>>());
            prop_assert!(partial <= 1);
        }

        #[test]
        fn shapes_fit_any_lengths(
            lengths in proptest::collection::vec(0usize..10_000_000, 0..20),
            longest in 0usize..10_000_000,
            multiple in 0usize..200,
            max_shapes in 0usize..20,
        ) {
            let options = BatchOptions { multiple, max_shapes, ..options() };
            let shapes = Shapes::fit(lengths.iter().copied(), longest, &options);
            let top = shapes.all()[shapes.all().len() - 1];
            prop_assert!(top.frames >= longest.max(lengths.iter().copied().max().unwrap_or(0)) + 10);
            prop_assert!(shapes.all().is_sorted());
        }
    }
}
