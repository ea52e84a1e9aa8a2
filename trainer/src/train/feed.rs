//! Feeds packed rows to the training loop from a thread of its own: the utterances of a row are loaded in parallel,
//! and a few rows wait in a queue.
//!
//! Which utterances share a row is planned from their lengths before anything is loaded, from the seed and the
//! epoch alone, so that a resumed run goes on at any row of the same plan.

use super::pack::{Packer, Planned, Row, Utterance};
use crate::data::batch::Pick;
use crate::data::loader::Examples;
use crate::{Error, ErrorKind, Result};
use ndarray::Axis;
use rayon::prelude::*;
use std::sync::mpsc::{Receiver, sync_channel};

/// Rows that wait for the training loop.
const QUEUE: usize = 3;

/// Most rows in memory at a time: those that wait, one in the making, one in use and its copy in the graph's input.
pub const ROWS_READY: usize = QUEUE + 3;

/// The rows of an epoch: which picks share each.
pub fn plan(
    examples: &dyn Examples,
    packer: &Packer,
    picks: &[Pick],
    epoch: u64,
) -> Result<Vec<Vec<Pick>>> {
    let items: Vec<Planned> = picks
        .par_iter()
        .map(|&pick| Planned {
            pick,
            frames: examples.frames(pick, epoch),
            symbols: examples.symbols(pick, epoch),
        })
        .collect();
    packer.view().plan(&items)
}

/// Copies of an utterance within an epoch are numbered from 0; its second view is that much further.
const NEXT_VIEW: usize = 1 << 20;

/// Loads one planned row.
///
/// # Errors
/// What loading reports, and [`ErrorKind::Data`] where the examples are not as long as planned.
pub fn load(examples: &dyn Examples, packer: &Packer, picks: &[Pick], epoch: u64) -> Result<Row> {
    let view = packer.view();
    if packer.views < 2 {
        return load_view(examples, &view, picks, epoch);
    }
    let parts = (0..packer.views)
        .map(|index| {
            let shifted: Vec<Pick> = picks
                .iter()
                .map(|pick| Pick {
                    copy: pick.copy + index * NEXT_VIEW,
                    ..*pick
                })
                .collect();
            load_view(examples, &view, &shifted, epoch)
        })
        .collect::<Result<Vec<_>>>()?;
    packer.join(&parts)
}

fn load_view(examples: &dyn Examples, packer: &Packer, picks: &[Pick], epoch: u64) -> Result<Row> {
    let loaded: Vec<_> = picks
        .par_iter()
        .map(|&pick| examples.load(pick, epoch))
        .collect::<Result<_>>()?;
    let mut row = packer.row();
    for (pick, example) in picks.iter().zip(loaded) {
        let features = example.features.index_axis(Axis(1), 0);
        let utterance = Utterance {
            targets: example.targets,
            name: example.name,
            index: pick.item,
        };
        packer.place(&mut row, features, utterance)?;
    }
    Ok(row)
}

/// Calls `consume` with a receiver of the planned rows in order; the first error ends them.
pub fn with_rows<T>(
    examples: &dyn Examples,
    packer: Packer,
    planned: &[Vec<Pick>],
    epoch: u64,
    consume: impl FnOnce(Receiver<Result<Row>>) -> Result<T>,
) -> Result<T> {
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(QUEUE);
        let producer = scope.spawn(move || {
            for picks in planned {
                let row = load(examples, &packer, picks, epoch);
                let failed = row.is_err();
                // A send fails only when the loop has stopped listening: then there is nothing left to do.
                if sender.send(row).is_err() || failed {
                    return;
                }
            }
        });
        let result = consume(receiver);
        match producer.join() {
            Ok(()) => result,
            Err(_) => result.and(Err(Error::new(
                ErrorKind::Data,
                "the thread that prepares batches panicked",
            ))),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::loader::Example;
    use ndarray::Array3;

    struct Numbers;

    impl Examples for Numbers {
        fn len(&self) -> usize {
            100
        }

        fn dimensions(&self) -> (usize, usize) {
            (2, 1)
        }

        fn frames(&self, pick: Pick, _epoch: u64) -> usize {
            5 + pick.item % 20
        }

        fn symbols(&self, _pick: Pick, _epoch: u64) -> usize {
            1
        }

        fn longest(&self, item: usize) -> usize {
            5 + item % 20
        }

        fn load(&self, pick: Pick, epoch: u64) -> Result<Example> {
            if pick.item == 99 && epoch == 7 {
                return Err(Error::new(ErrorKind::Data, "unreadable"));
            }
            Ok(Example {
                features: Array3::from_elem((2, 1, self.frames(pick, epoch)), pick.item as f32),
                targets: vec![1],
                name: pick.item.to_string(),
                text: String::new(),
            })
        }
    }

    const PACKER: Packer = Packer {
        width: 100,
        features: 2,
        stride: 2,
        gap: 2,
        delay: 1,
        most: 8,
        symbols: 6,
        views: 1,
    };

    fn picks() -> Vec<Pick> {
        (0..100)
            .map(|i| Pick {
                item: i * 37 % 100,
                copy: 0,
            })
            .collect()
    }

    #[test]
    fn rows_come_in_order_and_an_error_ends_them() {
        let plan = plan(&Numbers, &PACKER, &picks(), 0).unwrap();
        let collect = |epoch| {
            with_rows(&Numbers, PACKER, &plan, epoch, |rows| {
                rows.into_iter().collect::<Result<Vec<_>>>()
            })
        };
        let rows = collect(0).unwrap();
        assert_eq!(rows.len(), plan.len());
        for (row, picks) in rows.iter().zip(&plan) {
            assert_eq!(row, &load(&Numbers, &PACKER, picks, 0).unwrap());
        }
        assert_eq!(collect(7).unwrap_err().to_string(), "unreadable");
    }

    #[test]
    fn a_loop_that_stops_early_does_not_hang() {
        let plan = plan(&Numbers, &PACKER, &picks(), 0).unwrap();
        let first = with_rows(&Numbers, PACKER, &plan, 0, |rows| {
            rows.recv()
                .map_err(|_| Error::new(ErrorKind::Data, "none"))?
        })
        .unwrap();
        assert_eq!(first, load(&Numbers, &PACKER, &plan[0], 0).unwrap());
    }
}
