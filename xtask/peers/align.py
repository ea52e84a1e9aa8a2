"""Word boundaries by forced alignment with pocketsphinx and its US English model.

    python align.py MANIFEST.jsonl

Prints a JSON line {"path", "words": [{"start", "end"}]} for each recording of the manifest, times in seconds, one entry
for each word of its text; recordings whose words are not in the dictionary, or that cannot be aligned, are left out.
"""
import json
import os
import sys

import av
import numpy
from pocketsphinx import Decoder

RATE = 16_000
FRAMES = 100.0  # per second


def samples(path):
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
    parts = []
    with av.open(path) as container:
        for frame in container.decode(audio=0):
            parts += [part.to_ndarray() for part in resampler.resample(frame)]
        parts += [part.to_ndarray() for part in resampler.resample(None)]
    return numpy.concatenate(parts, axis=1)[0].astype(numpy.int16).tobytes()


def main():
    folder = os.path.dirname(sys.argv[1])
    decoder = Decoder(samprate=RATE, lm=None, bestpath=False, loglevel="FATAL")
    with open(sys.argv[1], encoding="utf-8") as file:
        rows = [json.loads(line) for line in file if line.strip()]
    for row in rows:
        said = row["text"].split()
        if not said or any(decoder.lookup_word(word) is None for word in said):
            continue
        try:
            decoder.set_align_text(" ".join(said))
            decoder.start_utt()
            decoder.process_raw(samples(os.path.join(folder, row["audio_filepath"])), full_utt=True)
            decoder.end_utt()
            found = [
                (segment.word.split("(")[0], segment.start_frame / FRAMES, (segment.end_frame + 1) / FRAMES)
                for segment in decoder.seg()
            ]
        except RuntimeError:
            continue
        words = [part for part in found if part[0] and not part[0].startswith(("<", "["))]
        if [word for word, _, _ in words] != said:
            continue
        print(json.dumps({
            "path": row["audio_filepath"],
            "words": [{"start": start, "end": end} for _, start, end in words],
        }), flush=True)


main()
