//! Graphs whose outputs are the next run's inputs, in the memory of the device that runs them: parameters and moments
//! that a step updates never travel to the host and back.
//!
//! Every carried tensor has two buffers. A run reads one and writes the other, and the next run the other way round,
//! each with a binding made once; nothing is copied between runs.

use super::{Buffer, Engine};
use crate::graph::{ExportNames, Graph, Value, emit};
use crate::{Error, ErrorKind, Result};
use acolyte::model::Provider;
use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::{IoBinding, Session};
use ort::value::Tensor;
use prost::Message;
use std::collections::{BTreeMap, HashMap};

impl Engine {
    /// Whether graphs run on a device with memory of its own.
    pub fn on_device(&self) -> bool {
        self.provider != Provider::Cpu
    }
}

/// A compiled graph with tensors that it carries from run to run.
#[derive(Debug)]
pub struct Resident {
    session: Session,
    bindings: [IoBinding; 2],
    /// Which buffers hold the current values, and which binding reads them.
    turn: usize,
    carried: BTreeMap<String, [Tensor<f32>; 2]>,
    fixed: BTreeMap<String, Tensor<f32>>,
    inputs: HashMap<String, Buffer>,
    outputs: HashMap<String, Buffer>,
    on_device: bool,
}

impl Resident {
    /// Compiles `graph`. `carried` pairs the name of an f32 input or parameter with the output that replaces it;
    /// parameters that are in no pair are carried unchanged. All start at zero.
    ///
    /// # Errors
    /// [`ErrorKind::Execution`] where ONNX Runtime refuses the graph, [`ErrorKind::Graph`] where a pair does not name
    /// an input and an output of one shape.
    pub fn new(engine: &Engine, graph: &Graph, carried: &[(String, String)]) -> Result<Self> {
        let names = ExportNames {
            kernels: engine.kernels(),
            ..Default::default()
        };
        let model = emit(graph, &names)?.encode_to_vec();
        let session = engine.session(&model, None)?;
        let on_device = engine.on_device();
        let allocator = if on_device {
            let info = MemoryInfo::new(
                AllocationDevice::CUDA,
                0,
                AllocatorType::Device,
                MemoryType::Default,
            )?;
            Allocator::new(&session, info)?
        } else {
            Allocator::default()
        };
        let mut resident = Self {
            bindings: [session.create_binding()?, session.create_binding()?],
            session,
            turn: 0,
            carried: BTreeMap::new(),
            fixed: BTreeMap::new(),
            inputs: HashMap::new(),
            outputs: HashMap::new(),
            on_device,
        };
        resident.bind_carried(graph, carried, &allocator)?;
        for &value in graph.inputs().iter().chain(graph.parameters()) {
            resident.bind_input(graph, value, &allocator)?;
        }
        for &value in graph.outputs() {
            let name = graph.value_name(value);
            if carried.iter().any(|(_, output)| output == name) {
                continue;
            }
            let mut tensor = Buffer::new(graph.dtype(value), graph.shape(value))?;
            for binding in &mut resident.bindings {
                match &mut tensor {
                    Buffer::F32(t) => binding.bind_output(name, t)?,
                    Buffer::I32(t) => binding.bind_output(name, t)?,
                    Buffer::I64(t) => binding.bind_output(name, t)?,
                }
            }
            resident.outputs.insert(name.to_owned(), tensor);
        }
        let names: Vec<(String, usize)> = resident
            .carried
            .iter()
            .map(|(name, [tensor, _])| (name, tensor))
            .chain(&resident.fixed)
            .map(|(name, tensor)| (name.clone(), tensor.shape().num_elements()))
            .collect();
        for (name, elements) in names {
            resident.write(&name, &vec![0.0; elements])?;
        }
        Ok(resident)
    }

    fn bind_carried(
        &mut self,
        graph: &Graph,
        pairs: &[(String, String)],
        allocator: &Allocator,
    ) -> Result<()> {
        let find = |values: &[Value], name: &str| {
            values
                .iter()
                .copied()
                .find(|&value| graph.value_name(value) == name)
        };
        for (input, output) in pairs {
            let from = find(graph.parameters(), input).or_else(|| find(graph.inputs(), input));
            let to = find(graph.outputs(), output);
            let shape = match (from, to) {
                (Some(from), Some(to)) if graph.shape(from) == graph.shape(to) => graph.shape(from),
                _ => {
                    return Err(Error::new(
                        ErrorKind::Graph,
                        format!(
                            "{input:?} and {output:?} are not an input and an output of one shape"
                        ),
                    ));
                }
            };
            let mut tensors = [tensor(allocator, shape)?, tensor(allocator, shape)?];
            for (turn, binding) in self.bindings.iter_mut().enumerate() {
                binding.bind_input(input.as_str(), &tensors[turn])?;
                binding.bind_output(output.as_str(), &mut tensors[1 - turn])?;
            }
            self.carried.insert(input.clone(), tensors);
        }
        Ok(())
    }

    fn bind_input(&mut self, graph: &Graph, value: Value, allocator: &Allocator) -> Result<()> {
        let name = graph.value_name(value).to_owned();
        if self.carried.contains_key(&name) {
            return Ok(());
        }
        if graph.parameters().contains(&value) {
            let tensor = tensor(allocator, graph.shape(value))?;
            for binding in &mut self.bindings {
                binding.bind_input(name.as_str(), &tensor)?;
            }
            self.fixed.insert(name, tensor);
            return Ok(());
        }
        let buffer = Buffer::new(graph.dtype(value), graph.shape(value))?;
        for binding in &mut self.bindings {
            bind(binding, &name, &buffer)?;
        }
        self.inputs.insert(name, buffer);
        Ok(())
    }

    /// Runs the graph once; what it carries is then what it computed.
    pub fn run(&mut self) -> Result<()> {
        let binding = &mut self.bindings[self.turn];
        if self.on_device {
            // An input is copied to the device when it is bound, not when the graph runs.
            for (name, buffer) in &self.inputs {
                bind(binding, name, buffer)?;
            }
        }
        self.session.run_binding(binding)?;
        self.turn = 1 - self.turn;
        Ok(())
    }

    fn missing(name: &str) -> Error {
        Error::new(
            ErrorKind::Graph,
            format!("the graph has no such tensor named {name:?}"),
        )
    }

    /// Sets what the graph carries under `name`.
    pub fn write(&mut self, name: &str, values: &[f32]) -> Result<()> {
        let target = match self.carried.get_mut(name) {
            Some(tensors) => &mut tensors[self.turn],
            None => self
                .fixed
                .get_mut(name)
                .ok_or_else(|| Self::missing(name))?,
        };
        if target.shape().num_elements() != values.len() {
            return Err(Error::new(
                ErrorKind::Graph,
                format!(
                    "{name} has shape {:?}, {} numbers were given",
                    target.shape(),
                    values.len()
                ),
            ));
        }
        if !self.on_device {
            target.extract_tensor_mut().1.copy_from_slice(values);
            return Ok(());
        }
        let mut staged = Tensor::<f32>::new(&Allocator::default(), target.shape().clone())?;
        staged.extract_tensor_mut().1.copy_from_slice(values);
        staged.copy_into(target)?;
        Ok(())
    }

    /// What the graph carries under `name`, copied to the host.
    pub fn read(&self, name: &str) -> Result<Vec<f32>> {
        let source = match self.carried.get(name) {
            Some(tensors) => &tensors[self.turn],
            None => self.fixed.get(name).ok_or_else(|| Self::missing(name))?,
        };
        if !self.on_device {
            return Ok(source.extract_tensor().1.to_vec());
        }
        let mut staged = Tensor::<f32>::new(&Allocator::default(), source.shape().clone())?;
        source.copy_into(&mut staged)?;
        Ok(staged.extract_tensor().1.to_vec())
    }

    /// Elements of an f32 output that is not carried.
    pub fn f32(&self, name: &str) -> Result<&[f32]> {
        match self.outputs.get(name) {
            Some(Buffer::F32(tensor)) => Ok(tensor.extract_tensor().1),
            _ => Err(Self::missing(name)),
        }
    }

    /// Elements of an f32 input that is fed at every run.
    pub fn f32_mut(&mut self, name: &str) -> Result<&mut [f32]> {
        match self.inputs.get_mut(name) {
            Some(Buffer::F32(tensor)) => Ok(tensor.extract_tensor_mut().1),
            _ => Err(Self::missing(name)),
        }
    }

    /// Elements of an i32 input that is fed at every run.
    pub fn i32_mut(&mut self, name: &str) -> Result<&mut [i32]> {
        match self.inputs.get_mut(name) {
            Some(Buffer::I32(tensor)) => Ok(tensor.extract_tensor_mut().1),
            _ => Err(Self::missing(name)),
        }
    }

    /// Elements of an i64 input that is fed at every run.
    pub fn i64_mut(&mut self, name: &str) -> Result<&mut [i64]> {
        match self.inputs.get_mut(name) {
            Some(Buffer::I64(tensor)) => Ok(tensor.extract_tensor_mut().1),
            _ => Err(Self::missing(name)),
        }
    }
}

fn tensor(allocator: &Allocator, shape: &[usize]) -> Result<Tensor<f32>> {
    let shape: Vec<i64> = shape.iter().map(|&n| n as i64).collect();
    Ok(Tensor::new(allocator, shape)?)
}

fn bind(binding: &mut IoBinding, name: &str, buffer: &Buffer) -> Result<()> {
    match buffer {
        Buffer::F32(t) => binding.bind_input(name, t)?,
        Buffer::I32(t) => binding.bind_input(name, t)?,
        Buffer::I64(t) => binding.bind_input(name, t)?,
    }
    Ok(())
}
