//! How an ONNX model is run: provider, threads, sessions.

use super::{CpuNodes, Provider};

/// How a model is run.
#[derive(Debug, Clone)]
pub struct OrtOptions {
    /// What it runs on; a named provider is required, never replaced.
    pub provider: Provider,
    /// Whether nodes that a named provider does not run may run on the CPU.
    pub cpu_nodes: CpuNodes,
    /// Threads within one run, at least 1.
    pub threads: usize,
    /// Most sessions, and so most runs at one time; further callers wait. At least 1.
    pub pool: usize,
}

impl Default for OrtOptions {
    /// The best provider, one thread for each run, and as many runs at a time as there are cores: small
    /// models gain more from several utterances side by side than from several threads on one.
    fn default() -> Self {
        Self {
            provider: Provider::Auto,
            cpu_nodes: CpuNodes::Refuse,
            threads: 1,
            pool: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

impl OrtOptions {
    /// The same options on another provider.
    #[must_use]
    pub fn with_provider(mut self, provider: Provider) -> Self {
        self.provider = provider;
        self
    }

    /// The same options with another answer to nodes the provider does not run.
    #[must_use]
    pub fn with_cpu_nodes(mut self, cpu_nodes: CpuNodes) -> Self {
        self.cpu_nodes = cpu_nodes;
        self
    }

    /// The same options with `threads` threads within one run.
    #[must_use]
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// The same options with at most `pool` runs at one time.
    #[must_use]
    pub fn with_pool(mut self, pool: usize) -> Self {
        self.pool = pool;
        self
    }
}
