"""Memory that KenLM takes for an ARPA file, in its default form (a probing hash table): bytes for each n-gram.

    python ngram_memory.py MODEL.arpa

Prints JSON lines {"work", "value", "unit"}.
"""
import gc
import json
import re
import sys

import kenlm


def resident():
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096


def main():
    path = sys.argv[1]
    ngrams = 0
    with open(path, encoding="utf-8") as file:
        for line in file:
            if line.startswith("\\1-grams:"):
                break
            found = re.match(r"ngram \d+=(\d+)", line)
            if found:
                ngrams += int(found.group(1))
    gc.collect()
    before = resident()
    model = kenlm.Model(path)
    model.score("a word")
    print(json.dumps({
        "work": "language model in memory",
        "value": (resident() - before) / ngrams,
        "unit": "bytes per n-gram",
    }))


main()
