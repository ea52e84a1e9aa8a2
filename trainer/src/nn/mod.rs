//! Layers: functions that add nodes to a graph and declare the parameters they use.
//!
//! A network is a function over a [`Net`], called once for each form it takes ([`Form`]): training with batch
//! statistics and dropout, evaluation and export with batch norm folded into the convolution before it. The
//! parameters declared on the way ([`ParameterSpec`]) are the same whatever the form, apart from the folding
//! that [`fold`] describes.

mod attention;
mod conv;
mod convolution;
mod gru;
mod heads;
mod init;
mod linear;
mod normed;
#[cfg(test)]
mod testing;

pub use attention::Attention;
pub use conv::ConvNorm;
pub use convolution::{Convolution, separable};
pub use heads::{Attended, Heads};
pub use init::{Init, initialize};
pub use linear::Bias;
pub use normed::{NormedConvolution, folded_names};

use crate::Result;
use crate::graph::{DType, Graph, Value};
use std::collections::BTreeMap;

/// What a graph is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Utterances one after another in a row, batch statistics, dropout.
    Train,
    /// Utterances one after another in a row, batch norm folded.
    Evaluate,
    /// One chunk of one utterance with its state as inputs and outputs, batch norm folded.
    Stream,
    /// One whole item of any length, batch norm folded.
    Whole,
}

/// A parameter that a network declared.
#[derive(Debug, Clone, PartialEq)]
pub struct ParameterSpec {
    /// Its name, unique in the network.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// How it starts.
    pub init: Init,
    /// Whether weight decay applies: to kernels and matrices, not to scales and biases.
    pub decays: bool,
}

/// Running statistics of a batch norm: exponential averages of the named graph outputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Statistic {
    /// Name in the parameter store.
    pub name: String,
    /// Number of channels.
    pub channels: usize,
    /// Graph output of a training step that holds the batch's value.
    pub output: String,
    /// Value at the start: 0 for means, 1 for variances.
    pub start: f32,
}

/// A state tensor of a streaming graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Input before the chunk.
    pub input: String,
    /// Output after it.
    pub output: String,
    /// Its axes after the batch axis.
    pub shape: Vec<usize>,
}

/// A network under construction: the graph and what it declared.
#[derive(Debug)]
pub struct Net {
    /// The graph.
    pub graph: Graph,
    /// What it is built for.
    pub form: Form,
    /// 1 where a position belongs to an utterance, `[1, 1, 1, T]`, at the current rate; absent where there is
    /// but one utterance.
    pub mask: Option<Value>,
    /// Seed of the step's dropout masks, i64 `[1]`, in training.
    pub seed: Option<Value>,
    parameters: Vec<ParameterSpec>,
    statistics: Vec<Statistic>,
    states: Vec<State>,
    kept: Vec<Value>,
    streams: u64,
    known: BTreeMap<String, Value>,
}

impl Net {
    /// An empty network of the given form.
    pub fn new(name: &str, form: Form) -> Self {
        Self {
            graph: Graph::new(name),
            form,
            mask: None,
            seed: None,
            parameters: Vec::new(),
            statistics: Vec::new(),
            states: Vec::new(),
            kept: Vec::new(),
            streams: 0,
            known: BTreeMap::new(),
        }
    }

    /// Declares a parameter and its place in the graph; asked for twice, it is shared.
    pub fn parameter(
        &mut self,
        name: &str,
        shape: &[usize],
        init: Init,
        decays: bool,
    ) -> Result<Value> {
        if let Some(&value) = self.known.get(name) {
            if self.graph.shape(value) != shape {
                let expected = format!("the parameter {name:?} in the shape {shape:?}");
                return Err(self.graph.mismatch(name, &expected, &[value]));
            }
            return Ok(value);
        }
        let value = self.graph.parameter(name, shape)?;
        self.known.insert(name.to_owned(), value);
        self.parameters.push(ParameterSpec {
            name: name.to_owned(),
            shape: shape.to_vec(),
            init,
            decays,
        });
        Ok(value)
    }

    /// The declared parameters in order.
    pub fn parameters(&self) -> &[ParameterSpec] {
        &self.parameters
    }

    /// The declared running statistics in order.
    pub fn statistics(&self) -> &[Statistic] {
        &self.statistics
    }

    /// The state tensors of a streaming graph in order.
    pub fn states(&self) -> &[State] {
        &self.states
    }

    /// Marks x as a boundary: a training step that recomputes activations keeps it
    /// ([`crate::graph::recomputing_gradients`]).
    pub fn keep(&mut self, x: Value) {
        self.kept.push(x);
    }

    /// The boundaries in order.
    pub fn kept(&self) -> &[Value] {
        &self.kept
    }

    /// x with elements dropped at `rate` in training, x itself otherwise.
    pub fn dropout(&mut self, x: Value, rate: f32) -> Result<Value> {
        let Some(seed) = self.seed.filter(|_| self.form == Form::Train && rate > 0.0) else {
            return Ok(x);
        };
        self.streams += 1;
        self.graph.dropout(x, seed, rate, self.streams)
    }

    /// A state tensor `[1, shape..]` of a streaming graph: the input; give its successor to
    /// [`Net::next_state`].
    fn state(&mut self, shape: &[usize]) -> Result<Value> {
        let index = self.states.len();
        let state = State {
            input: format!("state.{index}"),
            output: format!("next.{index}"),
            shape: shape.to_vec(),
        };
        let full: Vec<usize> = std::iter::once(1).chain(shape.iter().copied()).collect();
        let value = self.graph.input(&state.input, DType::F32, &full)?;
        self.states.push(state);
        Ok(value)
    }

    /// Names `value` as the successor of the state declared last.
    fn next_state(&mut self, value: Value) -> Result<()> {
        if let Some(state) = self.states.last() {
            let output = state.output.clone();
            self.graph.output(&output, value)?;
        }
        Ok(())
    }
}
