//! Runs graphs on ONNX Runtime with every input, parameter and output in a buffer bound once.
//!
//! Parameters live in a [`ParameterStore`] that several executables share: a training graph and an evaluation
//! graph read the same memory, and the optimizer updates it in place between runs. Nothing is copied and nothing
//! allocated per step but what ONNX Runtime keeps for activations.

mod inputs;
mod resident;

pub use inputs::Inputs;
pub use resident::Resident;

use super::{DType, ExportNames, Graph, Kernels, Value, custom, emit};
use crate::{Error, ErrorKind, Result};
use acolyte::model::{Library, Provider};
use ort::environment::Environment;
use ort::memory::Allocator;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{IoBinding, Session};
use ort::value::Tensor;
use prost::Message;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;

/// Where and with how many threads graphs run.
#[derive(Debug, Clone)]
pub struct Engine {
    environment: Environment,
    threads: usize,
    provider: Provider,
    kernels: Option<Kernels>,
}

impl Engine {
    /// An engine on the CPU provider with `threads` threads an operator (at least 1).
    pub fn new(library: &Library, threads: usize) -> Self {
        Self {
            environment: library.environment().clone(),
            threads: threads.max(1),
            provider: Provider::Cpu,
            kernels: None,
        }
    }

    /// The same engine on another provider. On CUDA graphs run in plain ONNX operators; only the CTC loss and the
    /// dropout masks stay kernels of ours on the CPU.
    ///
    /// # Errors
    /// [`ErrorKind::Provider`] for a provider that training does not run on, or that this build lacks. Whether the
    /// library has it shows when the first graph is compiled, which then fails: it never runs elsewhere instead.
    pub fn with_provider(mut self, provider: Provider) -> Result<Self> {
        let refuse = |message: &str| Err(Error::new(ErrorKind::Provider, message));
        match provider {
            Provider::Cpu => {}
            Provider::Cuda if cfg!(feature = "cuda") => {}
            Provider::Cuda => {
                return refuse(
                    "this build cannot train on CUDA: build with `--features cuda`, and set up the GPU library with \
                     `cargo xtask setup --gpu`",
                );
            }
            _ => return refuse("training runs on the providers cpu and cuda"),
        }
        self.provider = provider;
        Ok(self)
    }

    /// The same engine with other kernels than its provider's.
    pub fn with_kernels(mut self, kernels: Kernels) -> Self {
        self.kernels = Some(kernels);
        self
    }

    /// Who computes what ONNX has no fast operator for.
    pub fn kernels(&self) -> Kernels {
        match (self.kernels, self.provider) {
            (Some(chosen), _) => chosen,
            (None, Provider::Cpu) => Kernels::Native,
            (None, _) => Kernels::PlainOnnx,
        }
    }

    /// Threads an operator may use.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// A session of ONNX bytes, alone or with a profile whose path starts so.
    pub(crate) fn session(&self, model: &[u8], profile: Option<&Path>) -> Result<Session> {
        // ONNX Runtime registers a custom domain process-wide, first check then insert: two sessions made at the
        // same moment would collide.
        static CREATION: Mutex<()> = Mutex::new(());
        let _one_at_a_time = CREATION
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let fail = |error: ort::Error<ort::session::builder::SessionBuilder>| {
            Error::from(ort::Error::from(error))
        };
        let mut builder = Session::builder(&self.environment)?
            .with_optimization_level(GraphOptimizationLevel::All)
            .map_err(fail)?
            // The pattern of the first run would be laid out beside that run's own buffers: twice the memory, no time won.
            .with_memory_pattern(false)
            .map_err(fail)?
            .with_intra_threads(self.threads)
            .map_err(fail)?
            .with_operators(custom::domain()?)
            .map_err(fail)?;
        #[cfg(feature = "cuda")]
        if self.provider == Provider::Cuda {
            let cuda = ort::ep::CUDA::default().build().error_on_failure();
            builder = builder.with_execution_providers([cuda]).map_err(|error| {
                let error = fail(error);
                let message = format!(
                    "CUDA was asked for and cannot be had here, so nothing runs: {error}. It wants an NVIDIA GPU, its \
                     driver, and the library that `cargo xtask setup --gpu` installs"
                );
                Error::new(ErrorKind::Provider, message).with_source(error)
            })?;
        }
        if let Some(path) = profile {
            builder = builder.with_profiling(path).map_err(fail)?;
        }
        Ok(builder.commit_from_memory(model)?)
    }
}

/// A bound buffer of one of the element types graphs take.
#[derive(Debug)]
enum Buffer {
    F32(Tensor<f32>),
    I32(Tensor<i32>),
    I64(Tensor<i64>),
}

impl Buffer {
    fn new(dtype: DType, shape: &[usize]) -> Result<Self> {
        let allocator = Allocator::default();
        let shape: Vec<i64> = shape.iter().map(|&n| n as i64).collect();
        Ok(match dtype {
            DType::F32 => Self::F32(zeros(Tensor::new(&allocator, shape)?)),
            DType::I32 => Self::I32(zeros(Tensor::new(&allocator, shape)?)),
            DType::I64 => Self::I64(zeros(Tensor::new(&allocator, shape)?)),
            DType::Bool => {
                return Err(Error::new(
                    ErrorKind::Graph,
                    "inputs and outputs are numbers: convert a Bool first",
                ));
            }
        })
    }
}

fn zeros<T: ort::value::PrimitiveTensorElementType + Default + Copy + std::fmt::Debug>(
    mut tensor: Tensor<T>,
) -> Tensor<T> {
    tensor.extract_tensor_mut().1.fill(T::default());
    tensor
}

/// Named f32 tensors that outlive the graphs that use them: parameters, their gradients, running statistics.
#[derive(Debug)]
pub struct ParameterStore {
    names: Vec<String>,
    tensors: Vec<Tensor<f32>>,
    index: HashMap<String, usize>,
}

impl ParameterStore {
    /// An empty store. It takes the engine, since tensors are ONNX Runtime's and want the library loaded.
    pub fn new(_engine: &Engine) -> Self {
        Self {
            names: Vec::new(),
            tensors: Vec::new(),
            index: HashMap::new(),
        }
    }

    /// Adds a tensor of `shape` with `values`, or replaces the values of one that is there.
    ///
    /// # Errors
    /// [`ErrorKind::Graph`] where the number of values does not fit the shape, or the shape differs from before.
    pub fn insert(&mut self, name: &str, shape: &[usize], values: &[f32]) -> Result<()> {
        if values.len() != shape.iter().product::<usize>() {
            return Err(Error::new(
                ErrorKind::Graph,
                format!(
                    "{name}: shape {shape:?} does not hold {} numbers",
                    values.len()
                ),
            ));
        }
        if !self.index.contains_key(name) {
            let dims: Vec<i64> = shape.iter().map(|&n| n as i64).collect();
            self.index.insert(name.to_owned(), self.names.len());
            self.names.push(name.to_owned());
            self.tensors.push(Tensor::new(&Allocator::default(), dims)?);
        }
        if self.shape(name)? != shape {
            return Err(Error::new(
                ErrorKind::Graph,
                format!("{name} has shape {:?}, found {shape:?}", self.shape(name)?),
            ));
        }
        self.get_mut(name)?.copy_from_slice(values);
        Ok(())
    }

    /// Names in the order of insertion.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Total number of elements.
    pub fn elements(&self) -> usize {
        self.tensors
            .iter()
            .map(|t| t.extract_tensor().1.len())
            .sum()
    }

    fn find(&self, name: &str) -> Result<usize> {
        self.index.get(name).copied().ok_or_else(|| {
            Error::new(
                ErrorKind::Graph,
                format!("there is no parameter named {name:?}"),
            )
        })
    }

    /// Shape of a tensor.
    pub fn shape(&self, name: &str) -> Result<Vec<usize>> {
        let (shape, _) = self.tensors[self.find(name)?].extract_tensor();
        Ok(shape.iter().map(|&n| n as usize).collect())
    }

    /// Elements of a tensor, row-major.
    pub fn get(&self, name: &str) -> Result<&[f32]> {
        Ok(self.tensors[self.find(name)?].extract_tensor().1)
    }

    /// Elements of a tensor, row-major.
    pub fn get_mut(&mut self, name: &str) -> Result<&mut [f32]> {
        let index = self.find(name)?;
        Ok(self.tensors[index].extract_tensor_mut().1)
    }

    /// All tensors' elements in order, mutable: what an optimizer walks over.
    pub fn slices_mut(&mut self) -> impl Iterator<Item = (&str, &mut [f32])> {
        self.names
            .iter()
            .map(String::as_str)
            .zip(self.tensors.iter_mut().map(|t| t.extract_tensor_mut().1))
    }
}

/// A graph made ready to run.
#[derive(Debug)]
pub struct Executable {
    session: Session,
    binding: IoBinding,
    buffers: HashMap<String, Buffer>,
}

impl Executable {
    /// Compiles `graph`; its parameters are bound to the tensors of the same names in `parameters`.
    ///
    /// # Errors
    /// [`ErrorKind::Execution`] where ONNX Runtime refuses the graph, [`ErrorKind::Graph`] where a parameter is
    /// missing or has another shape.
    pub fn new(engine: &Engine, graph: &Graph, parameters: &ParameterStore) -> Result<Self> {
        Self::build(engine, graph, parameters, None)
    }

    /// As [`Executable::new`]; ONNX Runtime writes a profile, whose path starts with `prefix`.
    pub fn with_profile(
        engine: &Engine,
        graph: &Graph,
        parameters: &ParameterStore,
        prefix: &Path,
    ) -> Result<Self> {
        Self::build(engine, graph, parameters, Some(prefix))
    }

    fn build(
        engine: &Engine,
        graph: &Graph,
        parameters: &ParameterStore,
        profile: Option<&Path>,
    ) -> Result<Self> {
        let names = ExportNames {
            kernels: engine.kernels(),
            ..Default::default()
        };
        let model = emit(graph, &names)?.encode_to_vec();
        let session = engine.session(&model, profile)?;
        let mut binding = session.create_binding()?;
        let mut buffers = HashMap::new();
        for &value in graph.parameters() {
            let name = graph.value_name(value);
            if parameters.shape(name)? != graph.shape(value) {
                return Err(Error::new(
                    ErrorKind::Graph,
                    format!(
                        "parameter {name:?} has shape {:?}, the graph takes {:?}",
                        parameters.shape(name)?,
                        graph.shape(value)
                    ),
                ));
            }
            binding.bind_input(name, &parameters.tensors[parameters.find(name)?])?;
        }
        let buffer = |value: Value| -> Result<(String, Buffer)> {
            let name = graph.value_name(value).to_owned();
            Ok((name, Buffer::new(graph.dtype(value), graph.shape(value))?))
        };
        for &value in graph.inputs() {
            let (name, tensor) = buffer(value)?;
            match &tensor {
                Buffer::F32(t) => binding.bind_input(name.as_str(), t)?,
                Buffer::I32(t) => binding.bind_input(name.as_str(), t)?,
                Buffer::I64(t) => binding.bind_input(name.as_str(), t)?,
            }
            buffers.insert(name, tensor);
        }
        for &value in graph.outputs() {
            let (name, mut tensor) = buffer(value)?;
            match &mut tensor {
                Buffer::F32(t) => binding.bind_output(name.as_str(), t)?,
                Buffer::I32(t) => binding.bind_output(name.as_str(), t)?,
                Buffer::I64(t) => binding.bind_output(name.as_str(), t)?,
            }
            buffers.insert(name, tensor);
        }
        Ok(Self {
            session,
            binding,
            buffers,
        })
    }

    /// Runs the graph once over what its buffers hold.
    pub fn run(&mut self) -> Result<()> {
        self.session.run_binding(&self.binding)?;
        Ok(())
    }

    /// Ends profiling; the path of the profile.
    pub fn end_profiling(&mut self) -> Result<String> {
        Ok(self.session.end_profiling()?)
    }

    fn missing(name: &str, kind: &str) -> Error {
        Error::new(
            ErrorKind::Graph,
            format!("the graph has no {kind} input or output named {name:?}"),
        )
    }

    /// Elements of an f32 input or output.
    pub fn f32(&self, name: &str) -> Result<&[f32]> {
        match self.buffers.get(name) {
            Some(Buffer::F32(tensor)) => Ok(tensor.extract_tensor().1),
            _ => Err(Self::missing(name, "f32")),
        }
    }

    /// Elements of an f32 input or output.
    pub fn f32_mut(&mut self, name: &str) -> Result<&mut [f32]> {
        match self.buffers.get_mut(name) {
            Some(Buffer::F32(tensor)) => Ok(tensor.extract_tensor_mut().1),
            _ => Err(Self::missing(name, "f32")),
        }
    }

    /// Elements of an i32 input or output.
    pub fn i32_mut(&mut self, name: &str) -> Result<&mut [i32]> {
        match self.buffers.get_mut(name) {
            Some(Buffer::I32(tensor)) => Ok(tensor.extract_tensor_mut().1),
            _ => Err(Self::missing(name, "i32")),
        }
    }

    /// Elements of an i64 input or output.
    pub fn i64_mut(&mut self, name: &str) -> Result<&mut [i64]> {
        match self.buffers.get_mut(name) {
            Some(Buffer::I64(tensor)) => Ok(tensor.extract_tensor_mut().1),
            _ => Err(Self::missing(name, "i64")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::engine;
    use super::*;

    /// Where CUDA cannot be had, asking for it fails: when the engine is made in a build without it, and otherwise when
    /// a graph is compiled. It never runs on the CPU instead.
    #[test]
    fn cuda_without_a_gpu_is_an_error() {
        let asked = engine().with_provider(Provider::Cuda).and_then(|engine| {
            let mut g = Graph::new("one");
            let x = g.input("x", DType::F32, &[1])?;
            let y = g.relu(x)?;
            g.output("y", y)?;
            let store = ParameterStore::new(&engine);
            Executable::new(&engine, &g, &store)
        });
        match asked {
            Ok(_) if cfg!(feature = "cuda") => {}
            Ok(_) => panic!("compiled without CUDA, and yet it ran"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Provider);
                assert!(error.to_string().contains("setup --gpu"), "{error}");
            }
        }
    }

    #[test]
    fn other_providers_do_not_train() {
        let error = engine().with_provider(Provider::CoreMl).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Provider);
        assert!(error.to_string().contains("cpu and cuda"), "{error}");
    }

    #[test]
    fn parameters_are_checked() {
        let mut g = Graph::new("two");
        let w = g.parameter("w", &[2, 3]).unwrap();
        g.output("y", w).unwrap();
        let mut store = ParameterStore::new(&engine());
        let missing = Executable::new(&engine(), &g, &store).unwrap_err();
        assert!(missing.to_string().contains("\"w\""), "{missing}");
        store.insert("w", &[3, 2], &[0.0; 6]).unwrap();
        let turned = Executable::new(&engine(), &g, &store).unwrap_err();
        assert_eq!(turned.kind(), ErrorKind::Graph);
        assert!(store.insert("w", &[3, 2], &[0.0; 5]).is_err());
    }
}
