//! What the training loop trains: a network from packed rows of features `[1, F, 1, N]` (of images `[1, C, H, N]`) to
//! logits `[1, V, 1, T]`.
//!
//! Students and teachers alike are one [`Network`]: the loop, the checkpoints, the judgment and the export know no
//! more of them than this.

use crate::Result;
use crate::graph::Value;
use crate::graph::exec::{Engine, Inputs, ParameterStore};
use crate::nn::{Form, Net, ParameterSpec};
use crate::train::pack::Row;
use crate::{Error, ErrorKind};
use std::collections::HashMap;
use std::fmt;

/// The values that a built network names.
#[derive(Debug, Clone)]
pub struct Built {
    /// `[1, F, 1, N]`, or `[1, C, H, N]` with F = C H for images.
    pub features: Value,
    /// `[1, V, 1, T]`, T = N / stride.
    pub logits: Value,
    /// What stands after each block, `[1, C, 1, T]`, the last block's last.
    pub hidden: Vec<Value>,
    /// For a network that reads its label: what each frame attends to, mean over the heads of the last attention,
    /// `[1, 1, T, U]`.
    pub attention: Option<Value>,
}

/// Parameters or statistics of the training form by name.
pub type Lookup<'f, 'a> = &'f dyn Fn(&str) -> Result<&'a [f32]>;

/// A network that can be trained, judged, exported, and asked for guidance.
pub trait Network: fmt::Debug + Send + Sync {
    /// Features a frame: F.
    fn features(&self) -> usize;

    /// Symbols with blank: V.
    fn vocabulary(&self) -> usize;

    /// Feature frames per output frame.
    fn stride(&self) -> usize;

    /// Output frames by which the output lags the input.
    fn delay(&self) -> usize;

    /// Zero feature frames that must stand between utterances in a row so that none sees another.
    fn gap(&self) -> usize;

    /// Channels of the last hidden value.
    fn hidden_channels(&self) -> usize;

    /// Numbers that a step keeps for each feature frame: every layer's result, output and their gradients.
    fn kept(&self) -> f64;

    /// Output frames beyond which nothing has influence.
    fn receptive_field(&self) -> usize;

    /// Symbols that a row may hold, where the network reads its label.
    fn most_symbols(&self) -> usize {
        usize::MAX
    }

    /// Builds the network over `frames` feature frames, a multiple of the stride.
    ///
    /// # Errors
    /// [`ErrorKind::Graph`] where shapes do not fit.
    fn build(&self, net: &mut Net, frames: usize) -> Result<Built>;

    /// The parameters of the folded forms from those of the training form, by name.
    ///
    /// # Errors
    /// What `get` reports.
    fn fold<'a>(&self, get: Lookup<'_, 'a>) -> Result<HashMap<String, Vec<f32>>>;

    /// Fills the inputs that the network has beyond features, mask and seed; `draw` seeds what training draws at
    /// random, and is absent in judging.
    ///
    /// # Errors
    /// [`ErrorKind::Data`] where a row does not fit.
    fn feed(&self, inputs: &mut dyn Inputs, row: &Row, draw: Option<u64>) -> Result<()> {
        let _ = (inputs, row, draw);
        Ok(())
    }

    /// The parameters of the folded forms: names and shapes.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    fn folded_parameters(&self) -> Result<Vec<ParameterSpec>> {
        let mut net = Net::new("folded", Form::Evaluate);
        self.build(&mut net, self.stride())?;
        Ok(net.parameters().to_vec())
    }
}

/// A network whose layers below the output can be built alone: the source side of an Oracle Teacher.
pub trait Encoder: Network {
    /// Share of what stands after a layer that training drops.
    fn dropout(&self) -> f32;

    /// Features to what stands after each block, `[1, C, 1, T]`; declares the inputs that every network has.
    ///
    /// # Errors
    /// As [`Network::build`].
    fn encode(&self, net: &mut Net, frames: usize) -> Result<(Value, Vec<Value>)>;

    /// As [`Network::fold`], of the encoder's parameters alone.
    ///
    /// # Errors
    /// What `get` reports.
    fn fold_encoder(&self, get: Lookup<'_, '_>) -> Result<HashMap<String, Vec<f32>>>;
}

/// A store of a network's folded parameters.
///
/// # Errors
/// [`ErrorKind::Graph`] where a parameter is missing or has another size.
pub fn fold<'a>(
    engine: &Engine,
    network: &dyn Network,
    get: Lookup<'_, 'a>,
) -> Result<ParameterStore> {
    let mut store = ParameterStore::new(engine);
    let folded = network.fold(get)?;
    for spec in network.folded_parameters()? {
        let values = folded.get(&spec.name).ok_or_else(|| {
            Error::new(
                ErrorKind::Graph,
                format!("{} is not among the folded parameters", spec.name),
            )
        })?;
        store.insert(&spec.name, &spec.shape, values)?;
    }
    Ok(store)
}
