//! Models of speech in every convention, with random weights: adopted, run through the front-end they were made for, and
//! held against the same computed by hand. No trained model of these kinds is needed for that.

use acolyte::adopt::{Adoption, Convention, Preset, Report, Standing, adopt, open};
use acolyte::features::{Fbank, Waveform};
use acolyte::model::OrtOptions;
use acolyte::spec::{FrontEnd, LogMelSpec, OutputValues, WaveformSpec};
use acolyte::{Audio, Decoding, ErrorKind, SpeechRecognizer};
use acolyte_tests::toy_onnx::{
    ToyOnnx,
    element::{FLOAT, INT64},
    random,
};
use acolyte_tests::{library, tones};
use ndarray::{Array1, Array2, ArrayView1};

/// Tokens of every toy.
pub const V: usize = 6;
/// Filters of every toy.
pub const F: usize = 80;

pub const TOKENS: &str = "<blk> 0\n<unk> 1\n\u{2581}a 2\nb 3\n\u{2581}c 4\nd 5\n";

pub fn weights() -> Array2<f32> {
    Array2::from_shape_vec((F, V), random(F * V, 7))
        .unwrap()
        .mapv(|w| w * 0.2)
}

pub fn audio() -> Audio {
    Audio::new(tones("ab cad bad dab"), 16_000, 1).unwrap()
}

pub fn log_softmax(logits: &Array1<f32>) -> Array1<f32> {
    let most = logits.fold(f32::MIN, |m, x| m.max(*x));
    let sum = logits.iter().map(|x| (x - most).exp()).sum::<f32>().ln() + most;
    logits.mapv(|x| x - sum)
}

/// `x[.., ::4, ..] W`, log-softmax: the head that all whole-utterance toys share, behind `frames` `[B, T, F]`.
fn head(toy: ToyOnnx, frames: &str, output: &str) -> ToyOnnx {
    toy.floats("weight", &[F, V], weights().as_slice().unwrap())
        .slice(frames, 1, (0, i64::MAX, 4), "every.fourth")
        .node("MatMul", &["every.fourth", "weight"], "scores", None)
        .node("LogSoftmax", &["scores"], output, Some(("axis", &[2])))
        .output(output, FLOAT, &["N", "S", "6"])
}

pub fn icefall() -> ToyOnnx {
    let toy = ToyOnnx::default()
        .input("x", FLOAT, &["N", "T", "80"])
        .input("x_lens", INT64, &["N"])
        .ints("four", &[4]);
    head(toy, "x", "log_probs")
        .node("Div", &["x_lens", "four"], "log_probs_len", None)
        .output("log_probs_len", INT64, &["N"])
        .meta("model_type", "zipformer2_ctc")
        .meta("model_author", "k2-fsa")
        .meta("comment", "non-streaming zipformer2 CTC")
}

fn wenet() -> ToyOnnx {
    let toy = ToyOnnx::default()
        .input("x", FLOAT, &["N", "T", "80"])
        .input("x_lens", INT64, &["N"]);
    head(toy, "x", "log_probs")
        .meta("model_type", "wenet_ctc")
        .meta("model_author", "wenet")
        .meta("subsampling_factor", "4")
        .meta("vocab_size", "6")
}

fn nemo() -> ToyOnnx {
    let toy = ToyOnnx::default()
        .input("audio_signal", FLOAT, &["B", "80", "T"])
        .input("length", INT64, &["B"])
        .node(
            "Transpose",
            &["audio_signal"],
            "turned",
            Some(("perm", &[0, 2, 1])),
        );
    head(toy, "turned", "logprobs")
        .meta("model_type", "EncDecCTCModelBPE")
        .meta("normalize_type", "per_feature")
        .meta("subsampling_factor", "4")
        .meta("vocab_size", "5")
}

/// One convolution of 400 samples every 320, as long as wav2vec2's receptive field.
fn wav2vec2() -> ToyOnnx {
    ToyOnnx::default()
        .input("input_values", FLOAT, &["batch", "samples"])
        .input("attention_mask", INT64, &["batch", "samples"])
        .ints("axis", &[1])
        .floats("kernel", &[V, 1, 400], &random(V * 400, 3))
        .node("Cast", &["attention_mask"], "mask", Some(("to", &[1])))
        .node("Mul", &["input_values", "mask"], "heard", None)
        .node("Unsqueeze", &["heard", "axis"], "channel", None)
        .node(
            "Conv",
            &["channel", "kernel"],
            "steps",
            Some(("strides", &[320])),
        )
        .node(
            "Transpose",
            &["steps"],
            "logits",
            Some(("perm", &[0, 2, 1])),
        )
        .output("logits", FLOAT, &["batch", "steps", "6"])
}

pub fn adopted(toy: &ToyOnnx, adoption: &Adoption) -> (SpeechRecognizer, Report) {
    let mut report = Report::default();
    let bytes = adopt(&library(), &toy.bytes(), adoption, &mut report)
        .unwrap_or_else(|e| panic!("{e}\n{report}"));
    assert!(
        bytes.starts_with(&toy.bytes()),
        "the original stays as it is"
    );
    let recognizer = SpeechRecognizer::builder(&library())
        .from_bytes(bytes)
        .unwrap();
    (recognizer, report)
}

pub fn close(found: &Array2<f32>, expected: &Array2<f32>) {
    assert_eq!(found.dim(), expected.dim());
    for ((at, a), b) in found.indexed_iter().zip(expected) {
        assert!((a - b).abs() < 1e-3, "{at:?}: {a} {b}");
    }
}

fn whole(features: &Array2<f32>) -> Array2<f32> {
    let rows: Vec<_> = (0..features.nrows().div_ceil(4))
        .flat_map(|i| log_softmax(&features.row(4 * i).dot(&weights())).to_vec())
        .collect();
    Array2::from_shape_vec((rows.len() / V, V), rows).unwrap()
}

#[test]
fn whole_utterance_models_of_every_toolkit_are_adopted() {
    let blank_last = "<unk> 0\n\u{2581}a 1\nb 2\n\u{2581}c 3\nd 4\n<blk> 5\n";
    let blank_first = TOKENS.replace("<blk>", "<blank>");
    for (toy, convention, tokens, mel) in [
        (
            icefall(),
            Convention::IcefallCtc,
            TOKENS,
            LogMelSpec::icefall(),
        ),
        (
            wenet(),
            Convention::WenetCtc,
            &blank_first,
            LogMelSpec::kaldi(),
        ),
        (nemo(), Convention::NemoCtc, blank_last, LogMelSpec::nemo()),
    ] {
        // The file's own words are enough.
        let (recognizer, report) = adopted(&toy, &Adoption::default().with_tokens(tokens));
        assert_eq!(report.about("convention").unwrap().value, convention.name());
        let spec = recognizer.spec();
        assert_eq!(
            spec.front_end,
            FrontEnd::LogMel(mel.clone()),
            "{convention}"
        );
        assert_eq!(
            (spec.stride, spec.graph.output_values),
            (4, OutputValues::LogProbs)
        );
        assert_eq!(spec.license, "unknown");
        assert_eq!(report.about("license").unwrap().standing, Standing::Missing);
        assert!(
            spec.about["assumed"].contains("front-end"),
            "{:?}",
            spec.about
        );
        let features = Fbank::new(&mel)
            .unwrap()
            .compute(audio().samples())
            .unwrap();
        close(&recognizer.scores(&audio()).unwrap(), &whole(&features));
        let error = recognizer.stream(&Decoding::greedy()).unwrap_err();
        assert_eq!(
            error.kind(),
            ErrorKind::Role,
            "{convention} takes whole utterances"
        );
    }
}

#[test]
fn wav2vec2_is_adopted_with_its_mask() {
    let vocabulary = r#"{"<pad>": 0, "<s>": 1, "</s>": 2, "|": 3, "E": 4, "T": 5}"#;
    let (recognizer, _) = adopted(&wav2vec2(), &Adoption::default().with_tokens(vocabulary));
    let spec = recognizer.spec();
    assert_eq!(
        (spec.stride, spec.graph.output_values),
        (320, OutputValues::Logits)
    );
    let samples = audio().mono(16_000).unwrap();
    let wave = Waveform::new(&WaveformSpec::default())
        .unwrap()
        .compute(&samples)
        .unwrap();
    let kernel = Array2::from_shape_vec((V, 400), random(V * 400, 3)).unwrap();
    let steps = (samples.len() - 400) / 320 + 1;
    let expected = Array2::from_shape_fn((steps, V), |(t, v)| {
        let window: ArrayView1<'_, f32> = wave
            .column(0)
            .slice_move(ndarray::s![t * 320..t * 320 + 400]);
        window.dot(&kernel.row(v))
    });
    close(&recognizer.scores(&audio()).unwrap(), &expected);
    let said = recognizer.recognize(&audio(), &Decoding::greedy()).unwrap();
    assert!(!said.text.contains(['<', '|']), "{}", said.text);
    let short = Audio::new(vec![0.1; 399], 16_000, 1).unwrap();
    assert_eq!(
        recognizer
            .recognize(&short, &Decoding::greedy())
            .unwrap()
            .text,
        ""
    );
}

#[test]
fn any_other_model_is_described_in_a_preset() {
    let toy = ToyOnnx::default().input("feats", FLOAT, &["batch", "frames", "80"]);
    let toy = head(toy, "feats", "out");
    let preset = r#"{
        "name": "mine", "license": "CC0-1.0",
        "front_end": {"kind": "log-mel", "sample_rate": 16000, "scale": 1.0, "remove_dc": false, "pre_emphasis": 0.0,
            "window": "hann", "window_length": 400, "hop_length": 160, "fft_length": 400, "spectrum": "power",
            "framing": {"kind": "centered-short", "edge": "mirror"},
            "mel": "slaney", "mels": 80, "low_hz": 0.0, "high_hz": 8000.0,
            "log": {"kind": "floor", "value": 1e-10},
            "normalization": {"kind": "peak", "range": 18.42068, "mean": -9.21034, "deviation": 9.21034}},
        "input_layout": "B T F", "stride": 4, "blank": 0}"#;
    let adoption = Adoption::default()
        .with_preset(Preset::from_json(preset).unwrap())
        .with_tokens(TOKENS);
    let (recognizer, _) = adopted(&toy, &adoption);
    let spec = recognizer.spec();
    assert_eq!(
        (spec.name.as_str(), spec.license.as_str()),
        ("mine", "CC0-1.0")
    );
    assert_eq!(spec.graph.output_values, OutputValues::LogProbs, "measured");
    let FrontEnd::LogMel(mel) = &spec.front_end else {
        panic!("a mel front-end")
    };
    let features = Fbank::new(mel).unwrap().compute(audio().samples()).unwrap();
    close(&recognizer.scores(&audio()).unwrap(), &whole(&features));
}

#[test]
fn a_file_is_opened_adopted_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("toy.onnx");
    std::fs::write(&path, icefall().bytes()).unwrap();
    let adoption = Adoption::of(Convention::IcefallCtc)
        .with_tokens(TOKENS)
        .with_original("toy.onnx");
    let (model, report) = open(&library(), &path, &adoption, &OrtOptions::default()).unwrap();
    assert!(!report.notes.is_empty());
    assert_eq!(model.file().spec().name, "toy");
    std::fs::write(&path, model.file().bytes()).unwrap();
    let (again, report) = open(
        &library(),
        &path,
        &Adoption::default(),
        &OrtOptions::default(),
    )
    .unwrap();
    assert!(report.notes.is_empty(), "it has its spec already");
    assert_eq!(again.file().spec(), model.file().spec());
}
