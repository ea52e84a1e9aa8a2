"""Word boundaries by forced alignment: manifest rows on standard input, one JSON line an utterance on standard output.

{"audio": FILE NAME, "words": [[WORD, START, END], ..]}, times in seconds. Rows with a word that the dictionary lacks, or
that the aligner gives up on, are left out and counted on standard error. The acoustic model and the dictionary are those
that the package `pocketsphinx` brings (US English, 16 kHz).
"""

import json
import os
import sys

import numpy
import soundfile
from pocketsphinx import Decoder

RATE = 16000
FRAME = 0.01


def align(decoder, path, text):
    samples, rate = soundfile.read(path, dtype="int16", always_2d=True)
    words = text.split()
    if rate != RATE or not words or any(decoder.lookup_word(word) is None for word in words):
        return None
    # A little quiet at both ends, as the models expect.
    quiet = numpy.zeros(RATE // 5, dtype="int16")
    sound = numpy.concatenate([quiet, samples[:, 0], quiet])
    decoder.set_align_text(text)
    decoder.start_utt()
    decoder.process_raw(sound.tobytes(), full_utt=True)
    decoder.end_utt()
    if decoder.hyp() is None:
        return None
    found = []
    for part in decoder.seg():
        word = part.word.split("(")[0]
        if word.startswith("<") or word.startswith("["):
            continue
        start = part.start_frame * FRAME - 0.2
        end = (part.end_frame + 1) * FRAME - 0.2
        found.append([word, round(start, 3), round(end, 3)])
    return found if [word for word, _, _ in found] == words else None


def main():
    decoder = Decoder(lm=None, loglevel="FATAL")
    left_out = 0
    for line in sys.stdin:
        row = json.loads(line)
        try:
            found = align(decoder, row["audio"], row["text"])
        except RuntimeError:
            found = None
        if found is None:
            left_out += 1
            continue
        print(json.dumps({"audio": os.path.basename(row["audio"]), "words": found}), flush=True)
    print(f"{left_out} utterances were left out", file=sys.stderr)


main()
