//! Execution providers: which hardware runs a model, what was asked for, and what really happens.
//!
//! A provider that is named is required: if this build or the loaded library lacks it, or it refuses the
//! model, that is an error, never a quiet run on the CPU. [`Provider::Auto`] may fall back, and the
//! [`ProviderReport`] says so.

use crate::{Error, ErrorKind, Result};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// An execution provider. Each but the CPU needs this crate's feature of the same name and a library that
/// contains it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Provider {
    /// The best of those available, else the CPU; the report says which and why.
    #[default]
    Auto,
    /// The CPU: in every library.
    Cpu,
    /// NVIDIA GPUs through CUDA.
    Cuda,
    /// NVIDIA GPUs through TensorRT.
    TensorRt,
    /// GPUs of any make on Windows.
    DirectMl,
    /// Apple's neural engine and GPUs.
    CoreMl,
    /// Android's neural networks API.
    Nnapi,
    /// XNNPACK's CPU kernels.
    Xnnpack,
    /// Qualcomm's neural processors.
    Qnn,
}

impl Provider {
    /// Every value, in the order they are listed to people.
    pub const ALL: [Self; 9] = [
        Self::Auto,
        Self::Cpu,
        Self::Cuda,
        Self::TensorRt,
        Self::DirectMl,
        Self::CoreMl,
        Self::Nnapi,
        Self::Xnnpack,
        Self::Qnn,
    ];

    /// The name on the command line, in reports, and of this crate's feature.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::TensorRt => "tensorrt",
            Self::DirectMl => "directml",
            Self::CoreMl => "coreml",
            Self::Nnapi => "nnapi",
            Self::Xnnpack => "xnnpack",
            Self::Qnn => "qnn",
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Provider {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|p| p.name() == name);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::new(
                ErrorKind::InvalidArgument,
                format!("provider {name:?} is not one of {names}"),
            )
        })
    }
}

/// Whether nodes that the requested provider cannot run may run on the CPU beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum CpuNodes {
    /// Every node on the requested provider, or an error.
    #[default]
    Refuse,
    /// What the provider does not run, the CPU does; the report can count them.
    Allow,
}

/// What was asked for and what runs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProviderReport {
    /// What the caller asked for.
    pub requested: Provider,
    /// What the sessions were made for.
    pub used: Provider,
    /// Why, in one sentence.
    pub reason: String,
    /// Whether a provider that is available was tried first and did not take the model.
    pub fell_back: bool,
    /// How many nodes each provider ran, under ONNX Runtime's own names; `None` where that was not measured.
    pub nodes: Option<BTreeMap<String, usize>>,
}

#[cfg(feature = "onnx")]
pub use with_onnx::{Availability, availability};
#[cfg(feature = "onnx")]
pub(super) use with_onnx::{candidates, register};

#[cfg(feature = "onnx")]
mod with_onnx {
    use super::{CpuNodes, Error, ErrorKind, Provider, Result};
    use crate::model::Library;
    use ort::ep::{ExecutionProvider, ExecutionProviderDispatch};
    use ort::session::builder::SessionBuilder;

    /// Whether a provider can be asked for.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    #[non_exhaustive]
    pub enum Availability {
        /// This build and the library have it. Whether its drivers are there shows when a model is opened.
        Ready,
        /// This build lacks the feature of the provider's name.
        NotBuilt,
        /// The loaded library was built without it.
        NotInLibrary,
    }

    #[allow(dead_code, reason = "without any provider's feature")]
    fn is_available<E: ExecutionProvider>() -> bool {
        E::is_available().unwrap_or(false)
    }

    macro_rules! providers {
        ($($variant:ident: $feature:literal, $ep:ident;)+) => {
            fn compiled(provider: Provider) -> bool {
                match provider {
                    Provider::Auto | Provider::Cpu => true,
                    $(Provider::$variant => cfg!(feature = $feature),)+
                }
            }

            fn in_library(provider: Provider) -> bool {
                match provider {
                    Provider::Auto | Provider::Cpu => true,
                    $(#[cfg(feature = $feature)]
                    Provider::$variant => is_available::<ort::ep::$ep>(),)+
                    #[allow(unreachable_patterns, reason = "with every provider's feature on")]
                    _ => false,
                }
            }

            fn dispatch(provider: Provider) -> Option<ExecutionProviderDispatch> {
                match provider {
                    $(#[cfg(feature = $feature)]
                    Provider::$variant => Some(ort::ep::$ep::default().build().error_on_failure()),)+
                    _ => None,
                }
            }
        };
    }

    providers! {
        Cuda: "cuda", CUDA;
        TensorRt: "tensorrt", TensorRT;
        DirectMl: "directml", DirectML;
        CoreMl: "coreml", CoreML;
        Nnapi: "nnapi", NNAPI;
        Xnnpack: "xnnpack", XNNPACK;
        Qnn: "qnn", QNN;
    }

    /// What `auto` tries before the CPU. TensorRT is left out because it compiles for minutes, XNNPACK
    /// because it is a CPU itself, QNN because it needs settings of its own.
    const PREFERRED: [Provider; 4] = [
        Provider::Cuda,
        Provider::CoreMl,
        Provider::DirectMl,
        Provider::Nnapi,
    ];

    /// Whether `provider` can be asked for with `library`.
    pub fn availability(_library: &Library, provider: Provider) -> Availability {
        match (compiled(provider), in_library(provider)) {
            (false, _) => Availability::NotBuilt,
            (true, false) => Availability::NotInLibrary,
            (true, true) => Availability::Ready,
        }
    }

    /// The providers to try for `requested`, in order: one for a named provider.
    ///
    /// # Errors
    /// [`ErrorKind::Provider`] if a named one is not available.
    pub(in crate::model) fn candidates(
        library: &Library,
        requested: Provider,
    ) -> Result<Vec<Provider>> {
        let ready = |p: &Provider| availability(library, *p) == Availability::Ready;
        if requested == Provider::Auto {
            let preferred = PREFERRED.into_iter().filter(ready);
            return Ok(preferred.chain([Provider::Cpu]).collect());
        }
        let message = match availability(library, requested) {
            Availability::Ready => return Ok(vec![requested]),
            Availability::NotBuilt => format!(
                "provider {requested} is not in this build: build with `--features {requested}`, or ask for \
                 cpu or auto"
            ),
            Availability::NotInLibrary => format!(
                "provider {requested} is not in {}: load a build of ONNX Runtime that has it, or ask for cpu \
                 or auto",
                library.path().display()
            ),
        };
        Err(Error::new(ErrorKind::Provider, message))
    }

    /// Asks for `provider` in the sessions that `builder` makes.
    pub(in crate::model) fn register(
        builder: SessionBuilder,
        provider: Provider,
        cpu_nodes: CpuNodes,
    ) -> ort::Result<SessionBuilder> {
        let Some(dispatch) = dispatch(provider) else {
            return Ok(builder);
        };
        let builder = builder.with_execution_providers([dispatch])?;
        match cpu_nodes {
            CpuNodes::Refuse => Ok(builder.with_disable_cpu_fallback()?),
            CpuNodes::Allow => Ok(builder),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for provider in Provider::ALL {
            assert_eq!(provider.to_string().parse::<Provider>().unwrap(), provider);
        }
        let error = "gpu".parse::<Provider>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains("cuda"), "{error}");
    }
}
