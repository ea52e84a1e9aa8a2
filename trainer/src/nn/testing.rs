//! Gradient tests of whole layers: every input and every parameter a layer declares, by finite differences.

use super::{Form, Net, initialize};
use crate::Result;
use crate::graph::exec::{Executable, ParameterStore};
use crate::graph::testing::{check, engine};
use crate::graph::{DType, Graph, Value};
use std::collections::BTreeMap;

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

/// Tensors by name.
type Tensors = BTreeMap<String, Vec<f32>>;

/// Runs a layer in a form over x: its result, the parameters, and the network's other outputs. Parameters and states
/// not given in `values` start as they are declared.
pub(crate) fn outputs(
    form: Form,
    shape: &[usize],
    x: &[f32],
    values: &[(&str, Vec<f32>)],
    build: &dyn Fn(&mut Net, Value) -> Result<Value>,
) -> (Vec<f32>, Tensors, Tensors) {
    let mut net = Net::new("layer", form);
    let input = net.graph.input("x", DType::F32, shape).unwrap();
    let y = build(&mut net, input).unwrap();
    net.graph.output("y", y).unwrap();
    let engine = engine();
    let given = |name: &str| values.iter().find(|(n, _)| *n == name).map(|(_, v)| v);
    let mut store = ParameterStore::new(&engine);
    let mut parameters = Tensors::new();
    for spec in net.parameters() {
        let start = given(&spec.name).cloned();
        let start = start.unwrap_or_else(|| initialize(spec, 5));
        store.insert(&spec.name, &spec.shape, &start).unwrap();
        parameters.insert(spec.name.clone(), start);
    }
    let mut run = Executable::new(&engine, &net.graph, &store).unwrap();
    run.f32_mut("x").unwrap().copy_from_slice(x);
    for state in net.states() {
        let start = given(&state.input).unwrap();
        run.f32_mut(&state.input).unwrap().copy_from_slice(start);
    }
    run.run().unwrap();
    let named = |&value: &Value| net.graph.value_name(value).to_owned();
    let others = net.graph.outputs().iter().map(named);
    let others = others.map(|name| (name.clone(), run.f32(&name).unwrap().to_vec()));
    (run.f32("y").unwrap().to_vec(), parameters, others.collect())
}
