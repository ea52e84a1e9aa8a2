//! Measurements of the training engine, each against a PyTorch script of the same work (`xtask/peers`).

mod ctc;
mod networks;
mod operators;
mod optimizer;
mod step;

use crate::Result;
use cpu_time::ThreadTime;
use serde::Serialize;
use std::time::Instant;

pub use ctc::ctc_loss;
pub use networks::Network;
pub use operators::operators;
pub use optimizer::optimizer;
pub use step::{Activations, profile, step_memory, train_step};

/// One figure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// What was measured, in the words the peer's script uses.
    pub work: String,
    /// The figure.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
}

/// What times are measured by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Clock {
    /// The time that passes.
    #[default]
    Wall,
    /// The time that the measuring thread spends on a CPU: on a busy machine the fairer one, with one thread.
    Cpu,
}

impl Clock {
    /// The unit of its figures.
    fn unit(self) -> &'static str {
        match self {
            Self::Wall => "ms",
            Self::Cpu => "ms of CPU",
        }
    }

    /// Median milliseconds of `work` over `runs`, after three that warm up.
    fn median(self, runs: usize, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
        let mut times = Vec::with_capacity(runs);
        for run in 0..runs + 3 {
            let (wall, cpu) = (Instant::now(), ThreadTime::now());
            work()?;
            let spent = match self {
                Self::Wall => wall.elapsed(),
                Self::Cpu => cpu.elapsed(),
            };
            if run >= 3 {
                times.push(spent.as_secs_f64() * 1e3);
            }
        }
        times.sort_by(f64::total_cmp);
        Ok(times[times.len() / 2])
    }
}

/// Reproducible numbers in about +-1.
fn numbers(count: usize, salt: usize) -> Vec<f32> {
    (0..count)
        .map(|i| ((i * 7919 + salt * 104_729 + 13) % 2003) as f32 / 1001.5 - 1.0)
        .collect()
}
