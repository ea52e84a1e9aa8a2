//! Initial values of parameters, drawn from one named stream a parameter.

use crate::nn::ParameterSpec;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// How a parameter starts.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Init {
    /// All the same.
    Constant(f32),
    /// Uniform in `+-sqrt(6 / fan_in)`: keeps the variance through a ReLU (arXiv 1502.01852).
    He {
        /// Inputs of one output.
        fan_in: usize,
    },
    /// Uniform in `+-sqrt(3 / fan_in)`: keeps the variance through a linear map.
    Linear {
        /// Inputs of one output.
        fan_in: usize,
    },
    /// Uniform in `+-limit`.
    Uniform {
        /// Largest magnitude.
        limit: f32,
    },
}

/// The initial values of a parameter; they depend on the seed and the parameter's name alone, so that adding a
/// layer leaves the others as they were.
pub fn initialize(spec: &ParameterSpec, seed: u64) -> Vec<f32> {
    let count = spec.shape.iter().product();
    let limit = match spec.init {
        Init::Constant(value) => return vec![value; count],
        Init::He { fan_in } => (6.0 / fan_in.max(1) as f32).sqrt(),
        Init::Linear { fan_in } => (3.0 / fan_in.max(1) as f32).sqrt(),
        Init::Uniform { limit } => limit,
    };
    let mut random = stream(seed, &spec.name);
    (0..count)
        .map(|_| (random.random::<f32>() * 2.0 - 1.0) * limit)
        .collect()
}

/// A random stream named by a seed and a text (FNV-1a of the text is the stream's number).
fn stream(seed: u64, name: &str) -> impl Rng {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(hash);
    random
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_named_and_bounded() {
        let spec = |name: &str| ParameterSpec {
            name: name.to_owned(),
            shape: vec![64, 64],
            init: Init::He { fan_in: 64 },
            decays: true,
        };
        let a = initialize(&spec("a"), 1);
        assert_eq!(a, initialize(&spec("a"), 1));
        assert_ne!(a, initialize(&spec("b"), 1));
        assert_ne!(a, initialize(&spec("a"), 2));
        let limit = (6.0f32 / 64.0).sqrt();
        assert!(a.iter().all(|v| v.abs() <= limit));
        let variance = a.iter().map(|v| v * v).sum::<f32>() / a.len() as f32;
        assert!(
            (variance - 2.0 / 64.0).abs() < 0.1 * 2.0 / 64.0,
            "{variance}"
        );
    }
}
