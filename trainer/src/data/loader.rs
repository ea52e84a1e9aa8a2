//! Batches prepared in the background.
//!
//! [`Examples`] is what a task provides: items with a length that is known before they are loaded. A [`Loader`]
//! turns an epoch's plan into [`Batch`]es on a thread of its own, at most two ahead of the training step;
//! `[data] workers` of more than one loads the items of a batch in parallel. Items are pure functions of their
//! pick and epoch, so any start index, thread count or interruption gives the same batches.

use super::batch::{Batch, BatchOptions, Order, Pick, PlannedBatch, Shapes, plan};
use crate::error::{Error, ErrorKind, Result};
use ndarray::{Array3, Array4, Axis, Slice};
use rayon::prelude::*;
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

/// Batches prepared ahead.
const DEPTH: usize = 2;

/// One item, loaded.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// Features `[C, H, T]`, normalized.
    pub features: Array3<f32>,
    /// Token ids.
    pub targets: Vec<u32>,
    /// Name for messages.
    pub name: String,
    /// Normalized transcript.
    pub text: String,
}

/// A set of items to train or judge on.
pub trait Examples: Send + Sync {
    /// Number of items.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Channels and height of the features: `(C, H)`.
    fn dimensions(&self) -> (usize, usize);

    /// Frames of an item as [`load`](Self::load) will give it in this epoch; cheap.
    fn frames(&self, pick: Pick, epoch: u64) -> usize;

    /// Symbols of an item's transcript in this epoch; cheap.
    fn symbols(&self, pick: Pick, epoch: u64) -> usize;

    /// The most frames that an item has in any epoch; cheap.
    fn longest(&self, item: usize) -> usize;

    /// Loads an item; the same pick and epoch always give the same example.
    ///
    /// # Errors
    /// When its data cannot be read; the message names the file.
    fn load(&self, pick: Pick, epoch: u64) -> Result<Example>;
}

/// The shapes for training on `picks` of one set and judging on others whole.
///
/// Widths are chosen for the lengths of epoch 0 and hold the longest item of any epoch.
pub fn fit_shapes(
    train: &dyn Examples,
    train_picks: &[Pick],
    dev: &[&dyn Examples],
    options: &BatchOptions,
) -> Shapes {
    let all_of =
        |examples: &dyn Examples| (0..examples.len()).map(|item| examples.longest(item)).max();
    let longest = dev
        .iter()
        .map(|examples| all_of(*examples))
        .chain([all_of(train)])
        .flatten()
        .max()
        .unwrap_or(0);
    let lengths = train_picks.iter().map(|&pick| train.frames(pick, 0));
    Shapes::fit(lengths, longest, options)
}

/// The batches of an epoch.
pub fn plan_epoch(
    examples: &dyn Examples,
    picks: &[Pick],
    shapes: &Shapes,
    epoch: u64,
    order: Order,
) -> Arc<[PlannedBatch]> {
    let items: Vec<(Pick, usize)> = picks
        .iter()
        .map(|&pick| (pick, examples.frames(pick, epoch)))
        .collect();
    plan(&items, shapes, order).into()
}

/// Every item once: what judging takes.
pub fn all_picks(examples: &dyn Examples) -> Vec<Pick> {
    (0..examples.len())
        .map(|item| Pick { item, copy: 0 })
        .collect()
}

/// Prepares batches of some examples.
#[derive(Clone)]
pub struct Loader {
    examples: Arc<dyn Examples>,
    pool: Option<Arc<rayon::ThreadPool>>,
}

impl fmt::Debug for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loader")
            .field("examples", &self.examples.len())
            .field("workers", &self.workers())
            .finish()
    }
}

impl Loader {
    /// A loader of `examples` with that many worker threads.
    ///
    /// # Errors
    /// `Io` if the threads cannot be started.
    pub fn new(examples: Arc<dyn Examples>, workers: usize) -> Result<Self> {
        let pool = if workers > 1 {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(workers)
                .build()
                .map_err(|e| {
                    Error::new(
                        ErrorKind::Io,
                        format!("cannot start {workers} loader threads: {e}"),
                    )
                    .with_source(e)
                })?;
            Some(Arc::new(pool))
        } else {
            None
        };
        Ok(Self { examples, pool })
    }

    /// The examples.
    pub fn examples(&self) -> &Arc<dyn Examples> {
        &self.examples
    }

    /// Worker threads.
    pub fn workers(&self) -> usize {
        self.pool
            .as_ref()
            .map_or(1, |pool| pool.current_num_threads())
    }

    /// The batches of `plan` from index `start` on, prepared in the background as they are taken.
    ///
    /// # Errors
    /// `Io` if the thread cannot be started. An error while loading ends the iterator after it is returned.
    pub fn batches(&self, plan: Arc<[PlannedBatch]>, epoch: u64, start: usize) -> Result<Batches> {
        let (sender, receiver) = sync_channel(DEPTH - 1);
        let loader = self.clone();
        let left = plan.len().saturating_sub(start);
        let thread = std::thread::Builder::new()
            .name("loader".to_owned())
            .spawn(move || {
                for (index, planned) in plan.iter().enumerate().skip(start) {
                    let batch = loader.load(planned, epoch, index);
                    let failed = batch.is_err();
                    if sender.send(batch).is_err() || failed {
                        break;
                    }
                }
            })
            .map_err(|e| {
                Error::new(
                    ErrorKind::Io,
                    format!("cannot start the loader thread: {e}"),
                )
                .with_source(e)
            })?;
        Ok(Batches {
            receiver: Some(receiver),
            thread: Some(thread),
            left,
        })
    }

    /// One batch, loaded here and now.
    ///
    /// # Errors
    /// What loading one of its items reports.
    pub fn load(&self, planned: &PlannedBatch, epoch: u64, index: usize) -> Result<Batch> {
        let load = |&pick: &Pick| self.examples.load(pick, epoch);
        let examples: Vec<Example> = match &self.pool {
            Some(pool) => {
                pool.install(|| planned.picks.par_iter().map(load).collect::<Result<_>>())?
            }
            None => planned.picks.iter().map(load).collect::<Result<_>>()?,
        };
        let (channels, height) = self.examples.dimensions();
        let size = planned.shape.batch.max(examples.len());
        let frames = planned.shape.frames;
        let mut batch = Batch {
            features: Array4::zeros((size, channels, height, frames)),
            feature_lengths: vec![0; size],
            targets: vec![Vec::new(); size],
            names: vec![String::new(); size],
            texts: vec![String::new(); size],
            valid: examples.len(),
            index,
        };
        for (place, example) in examples.into_iter().enumerate() {
            let found = example.features.dim();
            if (found.0, found.1) != (channels, height) || found.2 > frames {
                return Err(Error::new(
                    ErrorKind::Data,
                    format!(
                        "{}: features {found:?} where [{channels}, {height}, at most {frames}] was planned",
                        example.name
                    ),
                ));
            }
            batch
                .features
                .index_axis_mut(Axis(0), place)
                .slice_axis_mut(Axis(2), Slice::from(0..found.2))
                .assign(&example.features);
            batch.feature_lengths[place] = found.2;
            batch.targets[place] = example.targets;
            batch.names[place] = example.name;
            batch.texts[place] = example.text;
        }
        Ok(batch)
    }
}

/// The batches of an epoch, as they get ready.
#[derive(Debug)]
pub struct Batches {
    receiver: Option<Receiver<Result<Batch>>>,
    thread: Option<JoinHandle<()>>,
    left: usize,
}

impl Iterator for Batches {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let received = self.receiver.as_ref()?.recv().unwrap_or_else(|_| {
            Err(Error::new(
                ErrorKind::Data,
                "the loader thread ended before its last batch; this is a defect of the loader",
            ))
        });
        self.left = if received.is_ok() { self.left - 1 } else { 0 };
        Some(received)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.left))
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        // A closed channel ends the thread after the batch it works on.
        self.receiver = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Item i has i + 1 frames of value i + 100 epoch; one item fails.
    struct Counting {
        count: usize,
        fails: Option<usize>,
    }

    impl Examples for Counting {
        fn len(&self) -> usize {
            self.count
        }
        fn dimensions(&self) -> (usize, usize) {
            (3, 1)
        }
        fn frames(&self, pick: Pick, _: u64) -> usize {
            pick.item + 1
        }
        fn symbols(&self, _: Pick, _: u64) -> usize {
            1
        }
        fn longest(&self, item: usize) -> usize {
            item + 1
        }
        fn load(&self, pick: Pick, epoch: u64) -> Result<Example> {
            if self.fails == Some(pick.item) {
                return Err(Error::new(ErrorKind::Data, "broken").with_path("broken.wav"));
            }
            let value = pick.item as f32 + 100.0 * epoch as f32;
            Ok(Example {
                features: Array3::from_elem((3, 1, pick.item + 1), value),
                targets: vec![pick.item as u32],
                name: format!("item {}", pick.item),
                text: String::new(),
            })
        }
    }

    fn set_up(fails: Option<usize>, workers: usize) -> (Loader, Arc<[PlannedBatch]>) {
        let examples = Counting { count: 40, fails };
        let options = BatchOptions {
            batch_frames: 64,
            max_batch: 8,
            multiple: 8,
            max_shapes: 4,
            tail_frames: 2,
        };
        let picks = all_picks(&examples);
        let shapes = fit_shapes(&examples, &picks, &[&examples], &options);
        let plan = plan_epoch(
            &examples,
            &picks,
            &shapes,
            0,
            Order::Shuffled { seed: 1, epoch: 0 },
        );
        (Loader::new(Arc::new(examples), workers).unwrap(), plan)
    }

    #[test]
    fn batches_hold_their_items_and_zeros_after_them() {
        let (loader, plan) = set_up(None, 1);
        let batches: Vec<Batch> = loader
            .batches(plan.clone(), 2, 0)
            .unwrap()
            .collect::<Result<_>>()
            .unwrap();
        assert_eq!(batches.len(), plan.len());
        for (batch, planned) in batches.iter().zip(plan.iter()) {
            assert_eq!(batch.shape(), planned.shape);
            assert_eq!(batch.valid, planned.picks.len());
            for place in 0..batch.shape().batch {
                let length = batch.feature_lengths[place];
                let row = batch.features.index_axis(Axis(0), place);
                for ((_, _, frame), &value) in row.indexed_iter() {
                    let expected = match planned.picks.get(place) {
                        Some(pick) if frame < length => pick.item as f32 + 200.0,
                        _ => 0.0,
                    };
                    assert_eq!(value, expected);
                }
                if place >= batch.valid {
                    assert!(length == 0 && batch.targets[place].is_empty());
                }
            }
        }
    }

    #[test]
    fn a_resumed_epoch_and_more_workers_give_the_same_batches() {
        let (loader, plan) = set_up(None, 1);
        let all: Vec<Batch> = loader
            .batches(plan.clone(), 0, 0)
            .unwrap()
            .flatten()
            .collect();
        let (parallel, _) = set_up(None, 3);
        assert_eq!(parallel.workers(), 3);
        for start in [0, 1, plan.len() - 1, plan.len(), plan.len() + 5] {
            let rest: Vec<Batch> = parallel
                .batches(plan.clone(), 0, start)
                .unwrap()
                .flatten()
                .collect();
            assert_eq!(rest, all[start.min(all.len())..]);
        }
    }

    #[test]
    fn an_error_is_returned_once_and_ends_the_epoch() {
        for workers in [1, 2] {
            let (loader, plan) = set_up(Some(17), workers);
            let results: Vec<_> = loader.batches(plan, 0, 0).unwrap().collect();
            let (last, before) = results.split_last().unwrap();
            assert!(before.iter().all(Result::is_ok));
            let error = last.as_ref().unwrap_err();
            assert!(error.to_string().contains("broken.wav"), "{error}");
        }
    }

    #[test]
    fn dropping_an_epoch_early_ends_its_thread() {
        let (loader, plan) = set_up(None, 1);
        let mut batches = loader.batches(plan, 0, 0).unwrap();
        assert!(batches.next().unwrap().is_ok());
        drop(batches);
        assert_eq!(Arc::strong_count(loader.examples()), 1);
    }
}
