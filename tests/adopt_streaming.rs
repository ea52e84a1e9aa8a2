//! Models of speech that stream, in the conventions of icefall, NeMo and WeNet: their state carried from chunk to chunk
//! whatever its axes, live against whole, and both against the same computed by hand.

use crate::adopt::{F, TOKENS, V, adopted, audio, close, log_softmax, weights};
use acolyte::adopt::{Adoption, Preset, Standing};
use acolyte::features::Fbank;
use acolyte::spec::{FrontEnd, LogMelSpec};
use acolyte::{Decoding, Event, Samples, SpeechRecognizer};
use acolyte_tests::toy_onnx::ToyOnnx;
use acolyte_tests::toy_onnx::element::{BOOL, FLOAT, INT64};
use ndarray::{Array1, Array2};

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
            stream
                .push(Samples {
                    data,
                    rate: 16_000,
                    channels: 1,
                })
                .unwrap();
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
        .node(
            "Transpose",
            &["cached_key_0"],
            "past",
            Some(("perm", &[1, 0, 2])),
        )
        .slice("now", 1, (0, 30, 1), "earlier.now")
        .node(
            "Concat",
            &["past", "earlier.now"],
            "earlier",
            Some(("axis", &[1])),
        )
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
        .node(
            "Transpose",
            &["kept"],
            "new_cached_key_0",
            Some(("perm", &[1, 0, 2])),
        )
        .node(
            "Add",
            &["processed_lens", "step"],
            "new_processed_lens",
            None,
        )
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
    let (recognizer, report) = adopted(
        &icefall_streaming(),
        &Adoption::default().with_tokens(TOKENS),
    );
    let streaming = recognizer.spec().streaming.as_ref().unwrap();
    assert_eq!(
        (streaming.chunk_frames, streaming.overlap_frames),
        (32, 13),
        "{report}"
    );
    assert_eq!(streaming.state[0].batch_axis, Some(1));
    let mel = LogMelSpec::icefall();
    let x = Fbank::new(&mel)
        .unwrap()
        .compute(audio().samples())
        .unwrap();
    let fill = f32::EPSILON.ln();
    let rows = (0..x.nrows().div_ceil(4)).flat_map(|i| {
        let t = 4 * i as i64;
        let y = frame(&x, t, fill) + frame(&x, t + 13, fill) * 0.5 + frame(&x, t - 2, fill) * 0.25;
        let mut logits = y.dot(&weights());
        logits[1] += 1e-3 * (i / 8 * 32) as f32;
        log_softmax(&logits).to_vec()
    });
    let rows: Vec<f32> = rows.collect();
    streams(
        &recognizer,
        &Array2::from_shape_vec((rows.len() / V, V), rows).unwrap(),
    );
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
        .node(
            "Transpose",
            &["audio_signal"],
            "x",
            Some(("perm", &[0, 2, 1])),
        )
        .slice("x", 1, (0, 16, 4), "now")
        .slice("x", 1, (4, 20, 4), "later")
        .node("Mul", &["later", "half"], "b", None)
        .node("Add", &["now", "b"], "y", None)
        .node("MatMul", &["y", "weight"], "plain", None)
        .node(
            "Cast",
            &["cache_last_channel_len"],
            "count",
            Some(("to", &[1])),
        )
        .node("Unsqueeze", &["count", "axes"], "count.3", None)
        .node("Mul", &["count.3", "bump"], "bumped", None)
        .node("Add", &["plain", "bumped"], "logits", None)
        .node("LogSoftmax", &["logits"], "logprobs", Some(("axis", &[2])))
        .node(
            "Add",
            &["cache_last_channel", "one"],
            "cache_last_channel_next",
            None,
        )
        .node(
            "Add",
            &["cache_last_time", "one"],
            "cache_last_time_next",
            None,
        )
        .node(
            "Add",
            &["cache_last_channel_len", "step"],
            "cache_last_channel_len_next",
            None,
        )
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
    let FrontEnd::LogMel(mel) = &spec.front_end else {
        panic!("a mel front-end")
    };
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
    streams(
        &recognizer,
        &Array2::from_shape_vec((rows.len() / V, V), rows).unwrap(),
    );
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
        .node(
            "ReduceMean",
            &["attn_cache"],
            "runs",
            Some(("keepdims", &[0])),
        )
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
    assert_eq!(
        report.about("left chunks").unwrap().standing,
        Standing::Found
    );
    let streaming = recognizer.spec().streaming.as_ref().unwrap();
    assert_eq!((streaming.chunk_frames, streaming.overlap_frames), (16, 3));
    assert_eq!(streaming.state[0].batch_axis, None);
    let x = Fbank::new(&LogMelSpec::kaldi())
        .unwrap()
        .compute(audio().samples())
        .unwrap();
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
    streams(
        &recognizer,
        &Array2::from_shape_vec((rows.len() / V, V), rows).unwrap(),
    );
}
