"""CTC loss and gradient in PyTorch on the CPU: median milliseconds for B=16, T=250, S=40, V=32 and 1000.

    python ctc_loss.py --threads 1

Prints JSON lines {"work", "value", "unit"}.
"""
import argparse
import json
import statistics
import time

import torch


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cpu-time", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    now, unit = (time.process_time, "ms of CPU") if arguments.cpu_time else (time.perf_counter, "ms")
    torch.manual_seed(0)
    for vocabulary in (32, 1000):
        logits = torch.randn(250, 16, vocabulary, requires_grad=True)
        targets = torch.randint(1, vocabulary, (16, 40))
        lengths = torch.full((16,), 250), torch.full((16,), 40)
        times = []
        for _ in range(33):
            logits.grad = None
            start = now()
            loss = torch.nn.functional.ctc_loss(logits.log_softmax(-1), targets, *lengths)
            loss.backward()
            times.append((now() - start) * 1e3)
        print(json.dumps({
            "work": f"CTC loss and gradient, V={vocabulary}, {arguments.threads} thread(s)",
            "value": statistics.median(times[3:]),
            "unit": unit,
        }))


main()
