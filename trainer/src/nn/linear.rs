//! Linear maps, embeddings and layer norm over rows.

use super::{Init, Net};
use crate::Result;
use crate::graph::Value;

/// Whether a layer adds a trained bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bias {
    /// It does.
    Trained,
    /// It does not.
    Absent,
}

impl Net {
    /// A linear map of the last axis: x `[.., I]` to `[.., outputs]`; weight `NAME.weight [I, outputs]`, bias
    /// `NAME.bias [outputs]`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Graph`] where x has no axes or a parameter of the name another shape.
    pub fn linear(&mut self, name: &str, x: Value, outputs: usize, bias: Bias) -> Result<Value> {
        let Some((&inputs, lead)) = self.graph.shape(x).split_last() else {
            return Err(self.graph.mismatch(name, "x [.., I]", &[x]));
        };
        let rows: usize = lead.iter().product();
        let mut shape = lead.to_vec();
        shape.push(outputs);
        let init = Init::Linear { fan_in: inputs };
        let weight = self.parameter(&format!("{name}.weight"), &[inputs, outputs], init, true)?;
        let flat = self.graph.reshape(x, &[rows, inputs])?;
        let y = match bias {
            Bias::Trained => {
                let bias = self.vector(name, "bias", outputs, 0.0)?;
                self.graph.linear(flat, weight, bias)?
            }
            Bias::Absent => self.graph.gemm(flat, weight, false, false)?,
        };
        self.graph.reshape(y, &shape)
    }

    /// Rows of a trained table: indices i64 `[..]` below `entries` to `[.., width]`; table `NAME.table`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Graph`] where indices are not i64 or a parameter of the name has another shape.
    pub fn embedding(
        &mut self,
        name: &str,
        indices: Value,
        entries: usize,
        width: usize,
    ) -> Result<Value> {
        let init = Init::Linear { fan_in: width };
        let table = self.parameter(&format!("{name}.table"), &[entries, width], init, false)?;
        self.graph.gather(table, indices)
    }

    /// Layer norm over the last axis: x `[.., D]`; scale `NAME.scale [D]` and bias `NAME.bias [D]`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Graph`] where x has no axes or a parameter of the name another shape.
    pub fn layer_norm(&mut self, name: &str, x: Value) -> Result<Value> {
        let width = self.graph.shape(x).last().copied().unwrap_or(0);
        let scale = self.vector(name, "scale", width, 1.0)?;
        let bias = self.vector(name, "bias", width, 0.0)?;
        self.graph.layer_norm(x, scale, bias, 1e-5)
    }

    /// The parameter `NAME.PART [length]`, without weight decay.
    pub(super) fn vector(
        &mut self,
        name: &str,
        part: &str,
        length: usize,
        start: f32,
    ) -> Result<Value> {
        let init = Init::Constant(start);
        self.parameter(&format!("{name}.{part}"), &[length], init, false)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::check_layer;
    use super::*;
    use crate::graph::DType;
    use crate::nn::Form;

    #[test]
    fn gradients_of_linear_and_layer_norm() {
        for (label, shape, bias) in [
            ("rows", &[5, 3][..], Bias::Trained),
            ("batch", &[2, 3, 7], Bias::Absent),
            ("one", &[4], Bias::Trained),
        ] {
            check_layer(&format!("linear {label}"), &[shape], &|net, x| {
                net.linear("l", x[0], 6, bias)
            });
            check_layer(&format!("layer norm {label}"), &[shape], &|net, x| {
                net.layer_norm("n", x[0])
            });
        }
    }

    #[test]
    fn layers_share_and_refuse() {
        let mut net = Net::new("t", Form::Train);
        let ids = net.graph.input("ids", DType::I64, &[2, 3]).unwrap();
        let a = net.embedding("e", ids, 11, 4).unwrap();
        assert_eq!(net.graph.shape(a), [2, 3, 4]);
        net.embedding("e", ids, 11, 4).unwrap();
        assert_eq!(net.parameters().len(), 1, "a table of one name is shared");
        assert!(net.linear("l", ids, 2, Bias::Absent).is_err(), "integers");
        net.linear("k", a, 5, Bias::Absent).unwrap();
        assert!(
            net.linear("k", a, 6, Bias::Absent).is_err(),
            "another shape"
        );
    }
}
