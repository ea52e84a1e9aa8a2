"""AdamW over 10 million parameters in PyTorch (fused): median milliseconds of an update.

    python optimizer.py --threads 1

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
    parameters = [torch.nn.Parameter(torch.randn(500_000)) for _ in range(20)]
    for parameter in parameters:
        parameter.grad = torch.randn(500_000)
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, fused=True)
    times = []
    for _ in range(33):
        start = now()
        optimizer.step()
        times.append((now() - start) * 1e3)
    print(json.dumps({
        "work": f"AdamW, 10M parameters, {arguments.threads} thread(s)",
        "value": statistics.median(times[3:]),
        "unit": unit,
    }))


main()
