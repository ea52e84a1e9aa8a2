//! Gradient tests of whole layers: every input and every parameter a layer declares, by finite differences.

use super::{Form, Net};
use crate::Result;
use crate::graph::testing::check;
use crate::graph::{Graph, Value};

/// Builds a layer's output from inputs of the given shapes.
pub(crate) type BuildLayer<'a> = &'a dyn Fn(&mut Net, &[Value]) -> Result<Value>;

/// Checks a layer in its training form.
pub(crate) fn check_layer(label: &str, inputs: &[&[usize]], build: BuildLayer<'_>) {
    let mut net = Net::new("shapes", Form::Train);
    let mut values = Vec::new();
    for (index, shape) in inputs.iter().enumerate() {
        let name = format!("x{index}");
        values.push(net.graph.parameter(&name, shape).unwrap());
    }
    build(&mut net, &values).unwrap();
    let specs = net.parameters().to_vec();
    let mut shapes = inputs.to_vec();
    shapes.extend(specs.iter().map(|spec| spec.shape.as_slice()));
    check(label, &shapes, false, &|g: &mut Graph, p: &[Value]| {
        let mut net = Net::new("layer", Form::Train);
        std::mem::swap(&mut net.graph, g);
        let (x, parameters) = p.split_at(inputs.len());
        for (spec, &value) in specs.iter().zip(parameters) {
            net.known.insert(spec.name.clone(), value);
        }
        let y = build(&mut net, x);
        std::mem::swap(&mut net.graph, g);
        y
    });
}
