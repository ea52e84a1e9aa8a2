//! Learning rate over a run: linear warm-up, then the recipe's schedule.

use crate::config::{Schedule, TrainConfig};

/// The rate at `step` (from 0), with `progress` in [0, 1] the part of the run that is over.
pub fn learning_rate(config: &TrainConfig, step: u64, progress: f64) -> f32 {
    let peak = config.learning_rate;
    if step < config.warmup_steps as u64 {
        return peak * (step + 1) as f32 / config.warmup_steps as f32;
    }
    match config.schedule {
        Schedule::Constant => peak,
        Schedule::Polynomial => {
            let rest = 1.0 - progress.clamp(0.0, 1.0);
            config.final_learning_rate + (peak - config.final_learning_rate) * (rest * rest) as f32
        }
        Schedule::Cosine => {
            let phase = std::f64::consts::PI * progress.clamp(0.0, 1.0);
            let share = (0.5 + 0.5 * phase.cos()) as f32;
            config.final_learning_rate + (peak - config.final_learning_rate) * share
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_then_falls_to_the_end() {
        let config = TrainConfig {
            warmup_steps: 10,
            learning_rate: 1.0,
            final_learning_rate: 0.01,
            ..Default::default()
        };
        assert!((learning_rate(&config, 0, 0.0) - 0.1).abs() < 1e-6);
        assert_eq!(learning_rate(&config, 9, 0.0), 1.0);
        assert!((learning_rate(&config, 10, 0.5) - 0.505).abs() < 1e-6);
        assert!((learning_rate(&config, 10, 2.0) - 0.01).abs() < 1e-6);
        let square = TrainConfig {
            schedule: Schedule::Polynomial,
            ..config
        };
        for (progress, expected) in [(0.0, 1.0), (0.5, 0.2575), (1.0, 0.01)] {
            assert!((learning_rate(&square, 10, progress) - expected).abs() < 1e-6);
        }
    }
}
