//! What gradient tests share: a graph's gradients against central finite differences, both run through ONNX Runtime,
//! and against the same graph in plain operators.
//!
//! The loss is `sum(y c)` with fixed numbers c, so that every element of y counts differently. In f32 a central
//! difference of step h is good to about `1e-6 / h + h^2`: with h = 1e-2 the tolerance is 1e-2 of the largest
//! gradient.

use super::exec::{Engine, Executable, ParameterStore};
use super::{Graph, Kernels, Value, gradients};
use crate::Result;
use acolyte::model::Library;

pub(crate) fn engine() -> Engine {
    Engine::new(
        &Library::find().expect("run `cargo xtask setup` first: the tests need libonnxruntime"),
        1,
    )
}

/// Numbers in about +-1 without repeats, different for each salt.
pub(crate) fn numbers(count: usize, salt: usize) -> Vec<f32> {
    (0..count)
        .map(|i| {
            let x = ((i * 7919 + salt * 104_729 + 13) % 2003) as f32 / 1001.5 - 1.0;
            x + 0.05 * x.signum()
        })
        .collect()
}

/// Builds y from parameters of the given shapes.
pub(crate) type Build<'a> = &'a dyn Fn(&mut Graph, &[Value]) -> Result<Value>;

/// A compiled loss with its gradients, whose parameters can be moved.
struct Probe {
    executable: Executable,
    store: ParameterStore,
    parameters: usize,
}

impl Probe {
    fn new(kernels: Kernels, shapes: &[&[usize]], values: &[Vec<f32>], build: Build<'_>) -> Self {
        let mut g = Graph::new("test");
        let mut store = ParameterStore::new(&engine());
        let mut parameters = Vec::new();
        for (index, (shape, data)) in shapes.iter().zip(values).enumerate() {
            let name = format!("p{index}");
            store.insert(&name, shape, data).unwrap();
            parameters.push(g.parameter(&name, shape).unwrap());
        }
        let y = build(&mut g, &parameters).unwrap();
        let shape = g.shape(y).to_vec();
        let count = shape.iter().product();
        let c = g.constant(&shape, numbers(count, 99)).unwrap();
        let product = g.mul(y, c).unwrap();
        let loss = g.sum_all(product).unwrap();
        let found = gradients(&mut g, loss, &parameters).unwrap();
        for (index, gradient) in found.into_iter().enumerate() {
            g.output(&format!("grad{index}"), gradient).unwrap();
        }
        g.output("loss", loss).unwrap();
        let engine = engine().with_kernels(kernels);
        Self {
            executable: Executable::new(&engine, &g, &store).unwrap(),
            store,
            parameters: shapes.len(),
        }
    }

    fn run(&mut self) -> (f32, Vec<Vec<f32>>) {
        self.executable.run().unwrap();
        let gradient = |index| {
            self.executable
                .f32(&format!("grad{index}"))
                .unwrap()
                .to_vec()
        };
        let found = (0..self.parameters).map(gradient).collect();
        (self.executable.f32("loss").unwrap()[0], found)
    }

    /// The loss with one element moved.
    fn moved(&mut self, parameter: usize, element: usize, distance: f32) -> f32 {
        let name = format!("p{parameter}");
        let original = self.store.get(&name).unwrap()[element];
        self.store.get_mut(&name).unwrap()[element] = original + distance;
        self.executable.run().unwrap();
        self.store.get_mut(&name).unwrap()[element] = original;
        self.executable.f32("loss").unwrap()[0]
    }
}

/// The loss and its gradients at the given parameter values.
pub(crate) fn evaluate(
    shapes: &[&[usize]],
    values: &[Vec<f32>],
    build: Build<'_>,
) -> (f32, Vec<Vec<f32>>) {
    Probe::new(Kernels::Native, shapes, values, build).run()
}

/// The graph without kernels of ours must compute the same.
pub(crate) fn same_in_plain_operators(
    label: &str,
    shapes: &[&[usize]],
    values: &[Vec<f32>],
    build: Build<'_>,
    loss: f32,
    found: &[Vec<f32>],
) {
    let (plain_loss, plain) = Probe::new(Kernels::PlainOnnx, shapes, values, build).run();
    let scale = loss.abs().max(1.0);
    assert!(
        (loss - plain_loss).abs() < 1e-4 * scale,
        "{label}: {loss}, plain {plain_loss}"
    );
    for (parameter, (ours, plain)) in found.iter().zip(&plain).enumerate() {
        let scale = plain.iter().fold(1.0f32, |a, b| a.max(b.abs()));
        for (element, (ours, plain)) in ours.iter().zip(plain).enumerate() {
            assert!(
                (ours - plain).abs() < 1e-4 * scale,
                "{label}: d loss / d p{parameter}[{element}] is {ours}, in plain operators {plain}"
            );
        }
    }
}

/// Fixed values for parameters of the given shapes; `positive` moves them into [0.5, 2].
pub(crate) fn starts(shapes: &[&[usize]], positive: bool) -> Vec<Vec<f32>> {
    let mut values: Vec<Vec<f32>> = shapes
        .iter()
        .enumerate()
        .map(|(salt, shape)| numbers(shape.iter().product(), salt))
        .collect();
    if positive {
        for value in values.iter_mut().flatten() {
            *value = 1.25 + 0.7 * *value;
        }
    }
    values
}

/// Compares every gradient with finite differences; `positive` moves the operands into [0.5, 2].
pub(crate) fn check(label: &str, shapes: &[&[usize]], positive: bool, build: Build<'_>) {
    let values = starts(shapes, positive);
    let mut probe = Probe::new(Kernels::Native, shapes, &values, build);
    let (loss, found) = probe.run();
    same_in_plain_operators(label, shapes, &values, build, loss, &found);
    let step = 1e-2;
    for (parameter, gradient) in found.iter().enumerate() {
        let largest = gradient.iter().fold(0.1f32, |a, b| a.max(b.abs()));
        // A spread of elements, first and last included.
        let count = gradient.len();
        let stride = count.div_ceil(12);
        for element in (0..count).step_by(stride).chain([count - 1]) {
            let above = probe.moved(parameter, element, step);
            let below = probe.moved(parameter, element, -step);
            let expected = (above - below) / (2.0 * step);
            let error = (gradient[element] - expected).abs();
            assert!(
                error < 1e-2 * largest,
                "{label}: d loss / d p{parameter}[{element}] is {}, differences give {expected}",
                gradient[element]
            );
        }
    }
}
