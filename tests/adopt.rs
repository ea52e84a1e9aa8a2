//! Models of speech in every convention, with random weights: adopted, run through the front-end they were made for, whole
//! and live, and held against the same computed by hand. No trained model of these kinds is needed for that.

use acolyte::adopt::{Adoption, Convention, Preset, Report, Standing, adopt, open};
use acolyte::features::{Fbank, Waveform};
use acolyte::model::OrtOptions;
use acolyte::spec::{FrontEnd, LogMelSpec, OutputValues, WaveformSpec};
use acolyte::{Audio, Decoding, ErrorKind, Event, Samples, SpeechRecognizer};
use acolyte_tests::toy_onnx::{ToyOnnx, element::{BOOL, FLOAT, INT64}, random};
use acolyte_tests::{library, tones};
use ndarray::{Array1, Array2, ArrayView1};

/// Tokens of every toy.
const V: usize = 6;
/// Filters of every toy.
const F: usize = 80;

const TOKENS: &str = "<blk> 0\n<unk> 1\n\u{2581}a 2\nb 3\n\u{2581}c 4\nd 5\n";

pub fn weights() -> Array2<f32> {
    Array2::from_shape_vec((F, V), random(F * V, 7)).unwrap().mapv(|w| w * 0.2)
}

fn audio() -> Audio {
    Audio::new(tones("ab cad bad dab"), 16_000, 1).unwrap()
}

fn log_softmax(logits: &Array1<f32>) -> Array1<f32> {
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
        .node("Transpose", &["audio_signal"], "turned", Some(("perm", &[0, 2, 1])));
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
        .node("Conv", &["channel", "kernel"], "steps", Some(("strides", &[320])))
        .node("Transpose", &["steps"], "logits", Some(("perm", &[0, 2, 1])))
        .output("logits", FLOAT, &["batch", "steps", "6"])
}

fn adopted(toy: &ToyOnnx, adoption: &Adoption) -> (SpeechRecognizer, Report) {
    let mut report = Report::default();
    let bytes = adopt(&library(), &toy.bytes(), adoption, &mut report)
        .unwrap_or_else(|e| panic!("{e}\n{report}"));
    assert!(bytes.starts_with(&toy.bytes()), "the original stays as it is");
    let recognizer = SpeechRecognizer::builder(&library()).from_bytes(bytes).unwrap();
    (recognizer, report)
}

fn close(found: &Array2<f32>, expected: &Array2<f32>) {
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
        (icefall(), Convention::IcefallCtc, TOKENS, LogMelSpec::icefall()),
        (wenet(), Convention::WenetCtc, &blank_first, LogMelSpec::kaldi()),
        (nemo(), Convention::NemoCtc, blank_last, LogMelSpec::nemo()),
    ] {
        // The file's own words are enough.
        let (recognizer, report) = adopted(&toy, &Adoption::default().with_tokens(tokens));
        assert_eq!(report.about("convention").unwrap().value, convention.name());
        let spec = recognizer.spec();
        assert_eq!(spec.front_end, FrontEnd::LogMel(mel.clone()), "{convention}");
        assert_eq!((spec.stride, spec.graph.output_values), (4, OutputValues::LogProbs));
        assert_eq!(spec.license, "unknown");
        assert_eq!(report.about("license").unwrap().standing, Standing::Missing);
        assert!(spec.about["assumed"].contains("front-end"), "{:?}", spec.about);
        let features = Fbank::new(&mel).unwrap().compute(audio().samples()).unwrap();
        close(&recognizer.scores(&audio()).unwrap(), &whole(&features));
        let error = recognizer.stream(&Decoding::greedy()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Role, "{convention} takes whole utterances");
    }
}

#[test]
fn wav2vec2_is_adopted_with_its_mask() {
    let vocabulary = r#"{"<pad>": 0, "<s>": 1, "</s>": 2, "|": 3, "E": 4, "T": 5}"#;
    let (recognizer, _) = adopted(&wav2vec2(), &Adoption::default().with_tokens(vocabulary));
    let spec = recognizer.spec();
    assert_eq!((spec.stride, spec.graph.output_values), (320, OutputValues::Logits));
    let samples = audio().mono(16_000).unwrap();
    let wave = Waveform::new(&WaveformSpec::default()).unwrap().compute(&samples).unwrap();
    let kernel = Array2::from_shape_vec((V, 400), random(V * 400, 3)).unwrap();
    let steps = (samples.len() - 400) / 320 + 1;
    let expected = Array2::from_shape_fn((steps, V), |(t, v)| {
        let window: ArrayView1<'_, f32> = wave.column(0).slice_move(ndarray::s![t * 320..t * 320 + 400]);
        window.dot(&kernel.row(v))
    });
    close(&recognizer.scores(&audio()).unwrap(), &expected);
    let said = recognizer.recognize(&audio(), &Decoding::greedy()).unwrap();
    assert!(!said.text.contains(['<', '|']), "{}", said.text);
    let short = Audio::new(vec![0.1; 399], 16_000, 1).unwrap();
    assert_eq!(recognizer.recognize(&short, &Decoding::greedy()).unwrap().text, "");
}

/// Live in odd pieces against the whole recording, both against `expected`.
fn streams(recognizer: &SpeechRecognizer, expected: &Array2<f32>) {
    close(&recognizer.scores(&audio()).unwrap(), expected);
    let said = recognizer.recognize(&audio(), &Decoding::greedy()).unwrap();
    for size in [77, 1_600, 40_000] {
        let mut stream = recognizer.stream(&Decoding::greedy()).unwrap();
        let mut words = Vec::new();
        let mut keep = |event: Event| {
            if let Event::Final(read) = event {
                words.push(read.best().text.clone());
            }
        };
        for data in audio().samples().chunks(size) {
            stream.push(Samples { data, rate: 16_000, channels: 1 }).unwrap();
            while let Some(event) = stream.poll().unwrap() {
                keep(event);
            }
        }
        stream.finish().unwrap().into_iter().for_each(&mut keep);
        assert_eq!(words.join(" "), said.text, "pushed {size} at a time");
    }
}

/// icefall's streaming export in small: 45 frames a run, 32 further on, states with the batch on other axes, and a count.
///
/// `y[t] = x[t] + x[t + 13] / 2 + x[t - 2] / 4` at every fourth t, and a thousandth of the frames so far on token 1.
fn icefall_streaming() -> ToyOnnx {
    let mut bump = vec![0.0; V];
    bump[1] = 1e-3;
    ToyOnnx::default()
        .input("x", FLOAT, &["N", "45", "80"])
        .input("cached_key_0", FLOAT, &["2", "N", "80"])
        .input("processed_lens", INT64, &["N"])
        .floats("weight", &[F, V], weights().as_slice().unwrap())
        .floats("half", &[1], &[0.5])
        .floats("quarter", &[1], &[0.25])
        .floats("bump", &[V], &bump)
        .ints("step", &[32])
        .ints("axes", &[1, 2])
        .slice("x", 1, (0, 32, 1), "now")
        .slice("x", 1, (13, 45, 1), "later")
        .node("Transpose", &["cached_key_0"], "past", Some(("perm", &[1, 0, 2])))
        .slice("now", 1, (0, 30, 1), "earlier.now")
        .node("Concat", &["past", "earlier.now"], "earlier", Some(("axis", &[1])))
        .node("Mul", &["later", "half"], "b", None)
        .node("Mul", &["earlier", "quarter"], "c", None)
        .node("Add", &["now", "b"], "ab", None)
        .node("Add", &["ab", "c"], "y", None)
        .slice("y", 1, (0, 32, 4), "y.4")
        .node("MatMul", &["y.4", "weight"], "plain", None)
        .node("Cast", &["processed_lens"], "count", Some(("to", &[1])))
        .node("Unsqueeze", &["count", "axes"], "count.3", None)
        .node("Mul", &["count.3", "bump"], "bumped", None)
        .node("Add", &["plain", "bumped"], "logits", None)
        .node("LogSoftmax", &["logits"], "log_probs", Some(("axis", &[2])))
        .slice("now", 1, (30, 32, 1), "kept")
        .node("Transpose", &["kept"], "new_cached_key_0", Some(("perm", &[1, 0, 2])))
        .node("Add", &["processed_lens", "step"], "new_processed_lens", None)
        .output("log_probs", FLOAT, &["N", "8", "6"])
        .output("new_cached_key_0", FLOAT, &["2", "N", "80"])
        .output("new_processed_lens", INT64, &["N"])
        .meta("model_type", "zipformer2")
        .meta("model_author", "k2-fsa")
        .meta("comment", "streaming ctc zipformer2")
        .meta("decode_chunk_len", "32")
        .meta("T", "45")
}

/// Frame t of features that are silent before the start and filled beyond the end.
fn frame(features: &Array2<f32>, t: i64, fill: f32) -> Array1<f32> {
    match usize::try_from(t) {
        Ok(t) if t < features.nrows() => features.row(t).to_owned(),
        Ok(_) => Array1::from_elem(F, fill),
        Err(_) => Array1::zeros(F),
    }
}

#[test]
fn a_streaming_zipformer_keeps_its_state() {
    let (recognizer, report) = adopted(&icefall_streaming(), &Adoption::default().with_tokens(TOKENS));
    let streaming = recognizer.spec().streaming.as_ref().unwrap();
    assert_eq!((streaming.chunk_frames, streaming.overlap_frames), (32, 13), "{report}");
    assert_eq!(streaming.state[0].batch_axis, Some(1));
    let mel = LogMelSpec::icefall();
    let x = Fbank::new(&mel).unwrap().compute(audio().samples()).unwrap();
    let fill = f32::EPSILON.ln();
    let rows = (0..x.nrows().div_ceil(4)).flat_map(|i| {
        let t = 4 * i as i64;
        let y = frame(&x, t, fill) + frame(&x, t + 13, fill) * 0.5 + frame(&x, t - 2, fill) * 0.25;
        let mut logits = y.dot(&weights());
        logits[1] += 1e-3 * (i / 8 * 32) as f32;
        log_softmax(&logits).to_vec()
    });
    let rows: Vec<f32> = rows.collect();
    streams(&recognizer, &Array2::from_shape_vec((rows.len() / V, V), rows).unwrap());
}

/// NeMo's cache-aware export in small: a window of 20 frames, 16 further on; `y[t] = x[t] + x[t + 4] / 2`, plus a
/// thousandth of the cache's filling on token 1.
#[test]
fn a_cache_aware_model_of_nemo_keeps_its_state() {
    let mut bump = vec![0.0; V];
    bump[1] = 1e-3;
    let toy = ToyOnnx::default()
        .input("audio_signal", FLOAT, &["B", "80", "T"])
        .input("length", INT64, &["B"])
        .input("cache_last_channel", FLOAT, &["B", "1", "D", "2"])
        .input("cache_last_time", FLOAT, &["B", "1", "2", "3"])
        .input("cache_last_channel_len", INT64, &["B"])
        .floats("weight", &[F, V], weights().as_slice().unwrap())
        .floats("half", &[1], &[0.5])
        .floats("bump", &[V], &bump)
        .floats("one", &[1], &[1.0])
        .ints("step", &[4])
        .ints("axes", &[1, 2])
        .node("Transpose", &["audio_signal"], "x", Some(("perm", &[0, 2, 1])))
        .slice("x", 1, (0, 16, 4), "now")
        .slice("x", 1, (4, 20, 4), "later")
        .node("Mul", &["later", "half"], "b", None)
        .node("Add", &["now", "b"], "y", None)
        .node("MatMul", &["y", "weight"], "plain", None)
        .node("Cast", &["cache_last_channel_len"], "count", Some(("to", &[1])))
        .node("Unsqueeze", &["count", "axes"], "count.3", None)
        .node("Mul", &["count.3", "bump"], "bumped", None)
        .node("Add", &["plain", "bumped"], "logits", None)
        .node("LogSoftmax", &["logits"], "logprobs", Some(("axis", &[2])))
        .node("Add", &["cache_last_channel", "one"], "cache_last_channel_next", None)
        .node("Add", &["cache_last_time", "one"], "cache_last_time_next", None)
        .node("Add", &["cache_last_channel_len", "step"], "cache_last_channel_len_next", None)
        .output("logprobs", FLOAT, &["B", "S", "6"])
        .output("cache_last_channel_next", FLOAT, &["B", "1", "D", "2"])
        .output("cache_last_time_next", FLOAT, &["B", "1", "2", "3"])
        .output("cache_last_channel_len_next", INT64, &["B"])
        .meta("model_type", "EncDecCTCModelBPE")
        .meta("normalize_type", "")
        .meta("subsampling_factor", "4")
        .meta("window_size", "20")
        .meta("chunk_shift", "16")
        .meta("cache_last_channel_dim1", "1")
        .meta("cache_last_channel_dim2", "5")
        .meta("cache_last_channel_dim3", "2");
    let (recognizer, _) = adopted(&toy, &Adoption::default().with_tokens(TOKENS));
    let spec = recognizer.spec();
    let FrontEnd::LogMel(mel) = &spec.front_end else { panic!("a mel front-end") };
    assert!(mel.normalization.streams());
    assert_eq!(spec.streaming.as_ref().unwrap().state[0].shape, [1, 5, 2]);
    let x = Fbank::new(mel).unwrap().compute(audio().samples()).unwrap();
    let fill = 2f32.powi(-24).ln();
    let rows: Vec<f32> = (0..x.nrows().div_ceil(4))
        .flat_map(|i| {
            let t = 4 * i as i64;
            let y = frame(&x, t, fill) + frame(&x, t + 4, fill) * 0.5;
            let mut logits = y.dot(&weights());
            logits[1] += 1e-3 * (i / 4 * 4) as f32;
            log_softmax(&logits).to_vec()
        })
        .collect();
    streams(&recognizer, &Array2::from_shape_vec((rows.len() / V, V), rows).unwrap());
}

/// WeNet's streaming export in small: chunks of 4 output frames, two of them remembered; the offset, the mask's filling
/// and a cache that counts runs show in tokens 1, 2 and 3.
#[test]
fn a_streaming_model_of_wenet_is_given_offset_and_mask() {
    let unit = |token: usize, by: f32| {
        let mut row = vec![0.0; V];
        row[token] = by;
        row
    };
    let toy = ToyOnnx::default()
        .input("x", FLOAT, &["1", "T", "80"])
        .input("offset", INT64, &["1"])
        .input("required_cache_size", INT64, &["1"])
        .input("attn_cache", FLOAT, &["2", "4", "8", "6"])
        .input("conv_cache", FLOAT, &["2", "1", "12", "7"])
        .input("attn_mask", BOOL, &["1", "1", "M"])
        .floats("weight", &[F, V], weights().as_slice().unwrap())
        .floats("half", &[1], &[0.5])
        .floats("one", &[1], &[1.0])
        .floats("at.1", &[V], &unit(1, 1e-3))
        .floats("at.2", &[V], &unit(2, 1e-2))
        .floats("at.3", &[V], &unit(3, 1e-2))
        .slice("x", 1, (0, 16, 4), "now")
        .slice("x", 1, (3, 19, 4), "later")
        .node("Mul", &["later", "half"], "b", None)
        .node("Add", &["now", "b"], "y", None)
        .node("MatMul", &["y", "weight"], "plain", None)
        .node("Sub", &["offset", "required_cache_size"], "heard", None)
        .node("Cast", &["heard"], "count", Some(("to", &[1])))
        .node("Mul", &["count", "at.1"], "bump.1", None)
        .node("Cast", &["attn_mask"], "mask", Some(("to", &[1])))
        .node("ReduceSum", &["mask"], "filled", Some(("keepdims", &[0])))
        .node("Mul", &["filled", "at.2"], "bump.2", None)
        .node("ReduceMean", &["attn_cache"], "runs", Some(("keepdims", &[0])))
        .node("Mul", &["runs", "at.3"], "bump.3", None)
        .node("Add", &["plain", "bump.1"], "l.1", None)
        .node("Add", &["l.1", "bump.2"], "l.2", None)
        .node("Add", &["l.2", "bump.3"], "logits", None)
        .node("LogSoftmax", &["logits"], "log_probs", Some(("axis", &[2])))
        .node("Add", &["attn_cache", "one"], "next_att_cache", None)
        .node("Identity", &["conv_cache"], "next_cnn_cache", None)
        .output("log_probs", FLOAT, &["1", "S", "6"])
        .output("next_att_cache", FLOAT, &["2", "4", "8", "6"])
        .output("next_cnn_cache", FLOAT, &["2", "1", "12", "7"])
        .meta("model_type", "wenet_ctc")
        .meta("head", "4")
        .meta("num_blocks", "2")
        .meta("output_size", "12")
        .meta("cnn_module_kernel", "8")
        .meta("right_context", "6")
        .meta("subsampling_factor", "4");
    let preset = Preset {
        chunk: Some(4),
        ..Preset::default()
    };
    let adoption = Adoption::default()
        .with_preset(preset)
        .with_tokens(TOKENS.replace("<blk>", "<blank>"));
    let (recognizer, report) = adopted(&toy, &adoption);
    assert_eq!(report.about("left chunks").unwrap().standing, Standing::Found);
    let streaming = recognizer.spec().streaming.as_ref().unwrap();
    assert_eq!((streaming.chunk_frames, streaming.overlap_frames), (16, 3));
    assert_eq!(streaming.state[0].batch_axis, None);
    let x = Fbank::new(&LogMelSpec::kaldi()).unwrap().compute(audio().samples()).unwrap();
    let fill = f32::EPSILON.ln();
    let rows: Vec<f32> = (0..x.nrows().div_ceil(4))
        .flat_map(|i| {
            let (t, run) = (4 * i as i64, i / 4);
            let y = frame(&x, t, fill) + frame(&x, t + 3, fill) * 0.5;
            let mut logits = y.dot(&weights());
            logits[1] += 1e-3 * (4 * run) as f32;
            logits[2] += 1e-2 * (4 + (4 * run).min(8)) as f32;
            logits[3] += 1e-2 * run as f32;
            log_softmax(&logits).to_vec()
        })
        .collect();
    streams(&recognizer, &Array2::from_shape_vec((rows.len() / V, V), rows).unwrap());
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
    assert_eq!((spec.name.as_str(), spec.license.as_str()), ("mine", "CC0-1.0"));
    assert_eq!(spec.graph.output_values, OutputValues::LogProbs, "measured");
    let FrontEnd::LogMel(mel) = &spec.front_end else { panic!("a mel front-end") };
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
    let (again, report) = open(&library(), &path, &Adoption::default(), &OrtOptions::default()).unwrap();
    assert!(report.notes.is_empty(), "it has its spec already");
    assert_eq!(again.file().spec(), model.file().spec());
}
