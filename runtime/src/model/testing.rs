//! A tiny real ONNX model for tests, written byte by byte: one causal `Conv` over log-mel features.
//!
//! Token v scores the mean of mel filter v over a window of 4 frames, stride 2, so a tone in filter v reads
//! as token v, and silence, where all filters tie, as token 0: the blank. Features `[B, F, 1, T]`, state
//! `[B, F, 1, 2]` (the convolution's own input), logits `[B, V, 1, T/2]`, F = V.

use super::wire::{put_bytes, put_varint};
use crate::spec::{
    FrontEnd, GraphSpec, InputLayout, LogGuard, LogMelSpec, MelScale, ModelSpec, Normalization,
    OutputLayout, OutputValues, Role, SPEC_VERSION, Spectrum, StateSpec, StreamingSpec, Task,
    TokensSpec, Window, WordMark,
};
use std::collections::BTreeMap;

/// What of the tiny model a test may vary.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tiny {
    /// F and V.
    pub size: usize,
    /// Outputs dropped at the start.
    pub delay: usize,
    /// A fixed number of frames instead of the axis `time`.
    pub frames: Option<usize>,
    /// Whether the state is part of the graph.
    pub state: bool,
    /// The value of every non-zero weight.
    pub weight: f32,
}

/// 8 filters, 8 tokens, one output frame of delay, state, free time axis.
pub(crate) const TINY: Tiny = Tiny {
    size: 8,
    delay: 1,
    frames: None,
    state: true,
    weight: 0.25,
};

fn message(parts: &[(u64, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, bytes) in parts {
        put_bytes(&mut out, *number, bytes);
    }
    out
}

fn number(out: &mut Vec<u8>, field: u64, value: u64) {
    put_varint(out, field << 3);
    put_varint(out, value);
}

fn tensor(name: &str, element: u64, dims: &[u64], raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for &dim in dims {
        number(&mut out, 1, dim);
    }
    number(&mut out, 2, element);
    put_bytes(&mut out, 8, name.as_bytes());
    put_bytes(&mut out, 9, raw);
    out
}

fn ints(name: &str, values: &[i64]) -> Vec<u8> {
    let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    tensor(name, 7, &[values.len() as u64], &raw)
}

/// Axes: a number or a name.
fn value(name: &str, element: u64, axes: &[&str]) -> Vec<u8> {
    let mut shape = Vec::new();
    for axis in axes {
        let mut dim = Vec::new();
        match axis.parse() {
            Ok(length) => number(&mut dim, 1, length),
            Err(_) => put_bytes(&mut dim, 2, axis.as_bytes()),
        }
        put_bytes(&mut shape, 1, &dim);
    }
    let mut dense = Vec::new();
    number(&mut dense, 1, element);
    put_bytes(&mut dense, 2, &shape);
    message(&[(1, name.as_bytes()), (2, &message(&[(1, &dense)]))])
}

/// Attributes: `Ok` one integer, `Err` a list.
fn node(
    operator: &str,
    inputs: &[&str],
    output: &str,
    attributes: &[(&str, Result<u64, &[u64]>)],
) -> Vec<u8> {
    let mut out = Vec::new();
    for input in inputs {
        put_bytes(&mut out, 1, input.as_bytes());
    }
    put_bytes(&mut out, 2, output.as_bytes());
    put_bytes(&mut out, 4, operator.as_bytes());
    for (name, set) in attributes {
        let mut attribute = message(&[(1, name.as_bytes())]);
        let (kind, field, values) = match set {
            Ok(one) => (2, 3, std::slice::from_ref(one)),
            Err(list) => (7, 8, *list),
        };
        for &v in values {
            number(&mut attribute, field, v);
        }
        number(&mut attribute, 20, kind);
        put_bytes(&mut out, 5, &attribute);
    }
    out
}

/// The model's bytes, without a spec.
pub(crate) fn tiny_onnx(tiny: Tiny) -> Vec<u8> {
    let n = tiny.size;
    let mut weights = vec![0f32; n * n * 4];
    for v in 0..n {
        weights[(v * n + v) * 4..][..4].fill(tiny.weight);
    }
    let raw: Vec<u8> = weights.iter().flat_map(|w| w.to_le_bytes()).collect();
    let size = n.to_string();
    let time = tiny
        .frames
        .map_or_else(|| "time".to_owned(), |t| t.to_string());

    let mut graph = Vec::new();
    if tiny.state {
        let joined = ["state.0", "features"];
        put_bytes(
            &mut graph,
            1,
            &node("Concat", &joined, "joined", &[("axis", Ok(3))]),
        );
        let slice = ["joined", "from", "to", "axes"];
        put_bytes(&mut graph, 1, &node("Slice", &slice, "next.0", &[]));
    }
    let strides = ("strides", Err(&[1u64, 2][..]));
    let (source, pads) = match tiny.state {
        true => ("joined", [0, 0, 0, 0]),
        false => ("features", [0, 2, 0, 0]),
    };
    let conv = [strides, ("pads", Err(&pads[..]))];
    put_bytes(
        &mut graph,
        1,
        &node("Conv", &[source, "weight"], "logits", &conv),
    );
    put_bytes(&mut graph, 2, b"tiny");
    let dims = [n as u64, n as u64, 1, 4];
    put_bytes(&mut graph, 5, &tensor("weight", 1, &dims, &raw));
    put_bytes(
        &mut graph,
        11,
        &value("features", 1, &["batch", &size, "1", &time]),
    );
    if tiny.state {
        for list in [
            ints("from", &[-2]),
            ints("to", &[i64::MAX]),
            ints("axes", &[3]),
        ] {
            put_bytes(&mut graph, 5, &list);
        }
        put_bytes(
            &mut graph,
            11,
            &value("state.0", 1, &["batch", &size, "1", "2"]),
        );
        put_bytes(
            &mut graph,
            12,
            &value("next.0", 1, &["batch", &size, "1", "2"]),
        );
    }
    put_bytes(
        &mut graph,
        12,
        &value("logits", 1, &["batch", &size, "1", "steps"]),
    );

    let mut model = Vec::new();
    number(&mut model, 1, 8);
    put_bytes(&mut model, 2, b"acolyte tests");
    put_bytes(&mut model, 7, &graph);
    let mut opset = Vec::new();
    number(&mut opset, 2, 17);
    put_bytes(&mut model, 8, &opset);
    model
}

/// The spec that belongs to [`tiny_onnx`]: tokens blank, space, then letters from `a`.
pub(crate) fn tiny_spec(tiny: Tiny) -> ModelSpec {
    let letters = ('a'..).take(tiny.size - 2).map(String::from);
    let pieces = ["<b>", " "].map(String::from);
    let state = StateSpec::new("state.0", "next.0", vec![tiny.size, 1, 2]);
    ModelSpec {
        version: SPEC_VERSION,
        name: "tiny".into(),
        task: Task::Speech,
        role: Role::Student,
        license: "CC0-1.0".into(),
        sha256: String::new(),
        about: BTreeMap::new(),
        tokens: TokensSpec {
            pieces: pieces.into_iter().chain(letters).collect(),
            blank: 0,
            word_mark: WordMark::Separator(" ".into()),
        },
        front_end: FrontEnd::LogMel(LogMelSpec {
            sample_rate: 16_000,
            scale: 1.0,
            remove_dc: false,
            pre_emphasis: 0.0,
            window: Window::Hann,
            window_length: 400,
            hop_length: 160,
            fft_length: 512,
            spectrum: Spectrum::Power,
            mel: MelScale::Htk,
            mels: tiny.size,
            low_hz: 20.0,
            high_hz: 8000.0,
            log: LogGuard::Floor(1e-2),
            normalization: Normalization::None,
            ..LogMelSpec::default()
        }),
        graph: GraphSpec {
            input: "features".into(),
            input_layout: InputLayout::BF1T,
            input_length: None,
            label: None,
            given: Vec::new(),
            output: "logits".into(),
            output_layout: OutputLayout::BV1T,
            output_values: OutputValues::Logits,
        },
        stride: 2,
        streaming: tiny.state.then(|| StreamingSpec {
            chunk_frames: tiny.frames.unwrap_or(16),
            overlap_frames: 0,
            delay_frames: tiny.delay,
            flush_value: 1e-2f32.ln(),
            state: vec![state],
        }),
    }
}

/// The spec of a fake model of images: `height` rows of gray, `height` tokens, stride 2: token v scores row v.
pub(crate) fn line_spec(height: usize) -> ModelSpec {
    let speech = tiny_spec(Tiny {
        size: height,
        ..TINY
    });
    ModelSpec {
        task: Task::SceneText,
        front_end: FrontEnd::Line(crate::spec::LineSpec {
            height,
            multiple: 4,
            min_width: 4,
            max_width: 512,
            normalization: Normalization::None,
            ..Default::default()
        }),
        graph: GraphSpec {
            input_layout: InputLayout::BCHT,
            ..speech.graph
        },
        streaming: None,
        ..speech
    }
}
