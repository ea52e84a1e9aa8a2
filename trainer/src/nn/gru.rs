//! A gated recurrent unit (arXiv 1406.1078, reset after the product, as cuDNN and PyTorch have it), in the direction of
//! time: `z, r = sigmoid(..)`, `n = tanh(W x + b + r (R y + c))`, `y = (1 - z) n + z y[t-1]`.
//!
//! It trains through [`crate::graph::Graph::gru_steps`] and runs as ONNX's GRU; a stream carries the last state.

use super::{Bias, Form, Init, Net};
use crate::Result;
use crate::graph::Value;

impl Net {
    /// x `[B, T, I]` to the states `[B, T, width]`, from a state of zeros (in a stream: from the one before).
    ///
    /// Parameters `NAME.input.weight [I, 3 width]`, `NAME.input.bias`, `NAME.state.weight [width, 3 width]`,
    /// `NAME.state.bias`; columns are those of update, reset, candidate.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Graph`] where x does not fit.
    pub fn gru(&mut self, name: &str, x: Value, width: usize) -> Result<Value> {
        let &[items, _, inputs] = self.graph.shape(x) else {
            return Err(self.graph.mismatch(name, "x [B, T, I]", &[x]));
        };
        let (input, state) = (format!("{name}.input"), format!("{name}.state"));
        let init = Init::Linear { fan_in: 3 * width };
        if self.form == Form::Train {
            let gates = self.linear(&input, x, 3 * width, Bias::Trained)?;
            let r = self.parameter(&format!("{state}.weight"), &[width, 3 * width], init, true)?;
            let bias = self.vector(&state, "bias", 3 * width, 0.0)?;
            return self.graph.gru_steps(gates, r, bias);
        }
        let mut weights = |prefix: &str, rows: usize| -> Result<Value> {
            let name = format!("{prefix}.weight");
            let weight = self.parameter(&name, &[rows, 3 * width], init, true)?;
            let turned = self.graph.transpose(weight, &[1, 0])?;
            self.graph.reshape(turned, &[1, 3 * width, rows])
        };
        let (w, r) = (weights(&input, inputs)?, weights(&state, width)?);
        let biases = [
            self.vector(&input, "bias", 3 * width, 0.0)?,
            self.vector(&state, "bias", 3 * width, 0.0)?,
        ];
        let bias = self.graph.concat(&biases, 0)?;
        let bias = self.graph.reshape(bias, &[1, 6 * width])?;
        let start = if self.form == Form::Stream {
            let before = self.state(&[1, width])?;
            self.graph.transpose(before, &[1, 0, 2])?
        } else {
            let zeros = vec![0.0; items * width];
            self.graph.constant(&[1, items, width], zeros)?
        };
        // Neither transpositions nor the sum over an axis of length 1 fix the lengths in the exported file.
        let by_time = self.graph.transpose(x, &[1, 0, 2])?;
        let [states, last] = self.graph.gru(by_time, [w, r, bias], start)?;
        if self.form == Form::Stream {
            let next = self.graph.transpose(last, &[1, 0, 2])?;
            self.next_state(next)?;
        }
        let states = self.graph.reduce_sum(states, &[1], false)?;
        self.graph.transpose(states, &[1, 0, 2])
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check_layer, outputs};
    use super::*;
    use crate::graph::testing::numbers;

    #[test]
    fn gradients() {
        for (label, shape, width) in [
            ("one frame", [2, 1, 3], 4),
            ("odd sizes", [3, 5, 2], 7),
            ("more items and channels than a block", [9, 3, 4], 17),
        ] {
            check_layer(label, &[&shape], &|net, x| net.gru("g", x[0], width));
        }
    }

    /// What is trained, what is evaluated, and what streams frame by frame.
    #[test]
    fn all_forms_agree() {
        let (frames, inputs, width) = (6, 3, 5);
        let x = numbers(frames * inputs, 3);
        let build = |net: &mut Net, x: Value| net.gru("g", x, width);
        let shape = [1, frames, inputs];
        let (trained, store, _) = outputs(Form::Train, &shape, &x, &[], &build);
        let parameters: Vec<(&str, Vec<f32>)> = store
            .iter()
            .map(|(name, values)| (name.as_str(), values.clone()))
            .collect();
        let (evaluated, ..) = outputs(Form::Evaluate, &shape, &x, &parameters, &build);
        let mut streamed = Vec::new();
        let mut state = vec![0.0; width];
        for frame in x.chunks_exact(inputs) {
            let mut with_state = parameters.clone();
            with_state.push(("state.0", state));
            let (y, _, others) = outputs(Form::Stream, &[1, 1, inputs], frame, &with_state, &build);
            state = others["next.0"].clone();
            streamed.extend(y);
        }
        for (form, found) in [("evaluated", evaluated), ("streamed", streamed)] {
            assert_eq!(found.len(), trained.len());
            for (a, b) in trained.iter().zip(&found) {
                assert!((a - b).abs() < 1e-5, "{a} trained, {b} {form}");
            }
        }
    }
}
