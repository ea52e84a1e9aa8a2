"""Our student in sherpa-onnx: wrapped as the streaming NeMo CTC model that it loads, then heard 10 ms at a time.

The wrapper renames inputs, packs all states into one cache, moves the blank to the end and adds the metadata; nodes and
weights of the student stay as they are. sherpa-onnx computes features of its own (Kaldi's filter bank), which the student
was not trained on: time is comparable, text is not.

Prints JSON lines {"work", "value", "unit"}. Arguments: the model, then WAV or FLAC files.
"""

import json
import sys
import tempfile
import time
import wave
from pathlib import Path

import numpy as np
import onnx
import sherpa_onnx
from onnx import TensorProto, helper, numpy_helper

PUSH = 160


def constant(name, values, dtype):
    return numpy_helper.from_array(np.array(values, dtype), name)


def wrapped(path):
    """The model as sherpa-onnx takes it, and its tokens, the blank last."""
    model = onnx.load(path)
    entry = next(p for p in model.metadata_props if p.key == "acolyte.spec")
    spec = json.loads(entry.value)
    graph = model.graph
    states = spec["streaming"]["state"]
    sizes = [int(np.prod(s["shape"])) for s in states]
    pieces, blank = spec["tokens"]["pieces"], spec["tokens"]["blank"]
    order = [i for i in range(len(pieces)) if i != blank] + [blank]
    normal = spec["front_end"]["normalization"]
    graph.initializer.extend(
        [
            constant("w.mean", np.array(normal["mean"])[:, None], np.float32),
            constant("w.deviation", np.array(normal["deviation"])[:, None], np.float32),
            constant("w.two", [2], np.int64),
            constant("w.stride", [spec["stride"]], np.int64),
            constant("w.sizes", sizes, np.int64),
            constant("w.cache", [1, 1, 1, sum(sizes)], np.int64),
            constant("w.flat", [1, 1, 1, -1], np.int64),
            constant("w.order", order, np.int64),
        ]
    )
    node = helper.make_node
    before = [
        node("Sub", ["audio_signal", "w.mean"], ["w.centered"]),
        node("Div", ["w.centered", "w.deviation"], ["w.normal"]),
        node("Unsqueeze", ["w.normal", "w.two"], [spec["graph"]["input"]]),
        node("Split", ["cache_last_time", "w.sizes"], [f"w.part{i}" for i in range(len(states))], axis=3),
    ]
    for index, state in enumerate(states):
        graph.initializer.append(constant(f"w.shape{index}", [1, *state["shape"]], np.int64))
        before.append(node("Reshape", [f"w.part{index}", f"w.shape{index}"], [state["input"]]))
    after = [
        node("Reshape", [state["output"], "w.flat"], [f"w.next{i}"]) for i, state in enumerate(states)
    ] + [
        node("Concat", [f"w.next{i}" for i in range(len(states))], ["cache_last_time_next"], axis=3),
        node("Identity", ["cache_last_channel"], ["cache_last_channel_next"]),
        node("Identity", ["cache_last_channel_len"], ["cache_last_channel_len_next"]),
        node("Squeeze", [spec["graph"]["output"], "w.two"], ["w.squeezed"]),
        node("Transpose", ["w.squeezed"], ["w.rows"], perm=[0, 2, 1]),
        node("Gather", ["w.rows", "w.order"], ["w.ordered"], axis=2),
        node("LogSoftmax", ["w.ordered"], ["logits_out"], axis=2),
        node("Div", ["length", "w.stride"], ["length_out"]),
    ]
    nodes = before + list(graph.node) + after
    value = helper.make_tensor_value_info
    real, whole = TensorProto.FLOAT, TensorProto.INT64
    cache = [1, 1, 1, sum(sizes)]
    inputs = [
        value("audio_signal", real, [1, len(normal["mean"]), "time"]),
        value("length", whole, [1]),
        value("cache_last_channel", real, [1, 1, 1, 1]),
        value("cache_last_time", real, cache),
        value("cache_last_channel_len", whole, [1]),
    ]
    outputs = [
        value("logits_out", real, [1, "output_time", len(pieces)]),
        value("length_out", whole, [1]),
        value("cache_last_channel_next", real, [1, 1, 1, 1]),
        value("cache_last_time_next", real, cache),
        value("cache_last_channel_len_next", whole, [1]),
    ]
    out = helper.make_model(
        helper.make_graph(nodes, "student", inputs, outputs, list(graph.initializer)),
        opset_imports=list(model.opset_import),
        ir_version=model.ir_version,
    )
    chunk = spec["streaming"]["chunk_frames"]
    metadata = {
        "model_type": "EncDecCTCModelBPE",
        "normalize_type": "",
        "window_size": chunk,
        "chunk_shift": chunk,
        "subsampling_factor": spec["stride"],
        "vocab_size": len(pieces) - 1,
        "cache_last_channel_dim1": 1,
        "cache_last_channel_dim2": 1,
        "cache_last_channel_dim3": 1,
        "cache_last_time_dim1": 1,
        "cache_last_time_dim2": 1,
        "cache_last_time_dim3": sum(sizes),
    }
    helper.set_model_props(out, {key: str(v) for key, v in metadata.items()})
    # The mark between words is the space; a token of its own must not be one for sherpa-onnx.
    shown = [{" ": "\u2581"}.get(pieces[i], pieces[i]) for i in order]
    shown[-1] = "<blk>"
    flush = (spec["streaming"]["delay_frames"] + 1) * spec["stride"] + chunk
    return out, shown, flush * spec["front_end"]["hop_length"]


def samples(path):
    if path.endswith(".wav"):
        with wave.open(path) as f:
            if (f.getframerate(), f.getnchannels(), f.getsampwidth()) == (16000, 1, 2):
                return np.frombuffer(f.readframes(f.getnframes()), np.int16).astype(np.float32) / 32768
    import av

    with av.open(path) as container:
        resampler = av.AudioResampler("flt", "mono", 16000)
        frames = [r for f in container.decode(audio=0) for r in resampler.resample(f)]
        frames += resampler.resample(None)
    return np.concatenate([f.to_ndarray().reshape(-1) for f in frames])


def main():
    model, files = sys.argv[1], sys.argv[2:]
    folder = Path(tempfile.mkdtemp())
    wrapper, tokens, flush = wrapped(model)
    onnx.save(wrapper, folder / "model.onnx")
    lines = [f"{piece} {i}" for i, piece in enumerate(tokens)]
    (folder / "tokens.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    recognizer = sherpa_onnx.OnlineRecognizer.from_nemo_ctc(
        tokens=str(folder / "tokens.txt"), model=str(folder / "model.onnx"), num_threads=1
    )

    def drain(stream):
        while recognizer.is_ready(stream):
            recognizer.decode_stream(stream)

    finals, busy, audio = [], 0.0, 0.0
    for number, path in enumerate([files[0], *files]):
        sound = samples(path)
        stream = recognizer.create_stream()
        spent = 0.0
        for start in range(0, len(sound), PUSH):
            began = time.process_time()
            stream.accept_waveform(16000, sound[start : start + PUSH])
            drain(stream)
            spent += time.process_time() - began
        began, worked = time.perf_counter(), time.process_time()
        stream.accept_waveform(16000, np.zeros(flush, np.float32))
        stream.input_finished()
        drain(stream)
        text = recognizer.get_result(stream)
        took, end = time.perf_counter() - began, time.process_time()
        print(f"{path}: {text}", file=sys.stderr)
        # The first time round everything is warmed up.
        if number > 0:
            finals.append(took * 1e3)
            busy += spent + end - worked
            audio += len(sound) / 16000
    rows = [
        ("last sample to final text, p50", float(np.percentile(finals, 50)), "ms"),
        ("last sample to final text, p95", float(np.percentile(finals, 95)), "ms"),
        ("processor share of one live stream", 100 * busy / audio, "% of a core"),
    ]
    for work, figure, unit in rows:
        print(json.dumps({"work": work, "value": figure, "unit": unit}))


main()
