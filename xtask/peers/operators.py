"""The gradient of each operator alone in PyTorch on the CPU: median milliseconds of a backward pass.

    python operators.py --threads 1

Prints JSON lines {"work", "value", "unit"}.
"""
import argparse
import json
import statistics
import time

import torch
from torch.nn import functional as F


def convolution(x, w, stride, groups):
    return [x, w], lambda x, w: F.conv2d(x, w, None, stride, w.shape[-1] // 2, 1, groups)


CASES = {
    "3x3, 32 to 64": convolution((32, 32, 16, 64), (64, 32, 3, 3), 1, 1),
    "3x3, 64 to 128": convolution((32, 64, 8, 32), (128, 64, 3, 3), 1, 1),
    "3x3 stride 2, 32 to 64": convolution((32, 32, 16, 64), (64, 32, 3, 3), 2, 1),
    "3x3 stride 2, 1 to 32": convolution((32, 1, 32, 128), (32, 1, 3, 3), 2, 1),
    "1x1, 128 to 256": convolution((32, 128, 8, 32), (256, 128, 1, 1), 1, 1),
    "depthwise 5x5, 128": convolution((32, 128, 8, 32), (128, 1, 5, 5), 1, 128),
    "depthwise 3x3, 64": convolution((32, 64, 16, 64), (64, 1, 3, 3), 1, 64),
    "depthwise k15 along rows, 192": (
        [(16, 250, 192), (192, 1, 15), (192,)],
        lambda x, w, b: F.conv1d(x.transpose(1, 2), w, b, 1, 7, 1, 192).transpose(1, 2),
    ),
    "linear, 4000 x 192 to 384": ([(4000, 192), (384, 192), (384,)], F.linear),
    "layer norm with its forward pass, 4000 x 192": (
        [(4000, 192), (192,), (192,)],
        lambda x, scale, bias: F.layer_norm(x, (192,), scale, bias),
    ),
    "SiLU, 4000 x 384": ([(4000, 384)], F.silu),
    "max pool 2x2 with its forward pass, 64": ([(32, 64, 16, 64)], lambda x: F.max_pool2d(x, 2)),
    "batch norm and ReLU with the forward pass, 64": (
        [(32, 64, 16, 64), (64,), (64,)],
        lambda x, scale, bias: F.relu(F.batch_norm(x, None, None, scale, bias, True, 0.0, 1e-3)),
    ),
    "softmax with its forward pass, 64 x 250 x 250": ([(64, 250, 250)], lambda x: F.softmax(x, -1)),
    "GELU, 4000 x 384": ([(4000, 384)], F.gelu),
    "embedding, 4000 of 1000 x 192": (
        [(1000, 192)],
        lambda table: F.embedding(torch.arange(4000) * 7 % 1000, table),
    ),
    "GRU with its forward pass, 16 x 100 x 128 to 192": (
        [(16, 100, 128), (576, 128), (576, 192), (576,), (576,)],
        lambda x, *weights: torch.gru(x, torch.zeros(1, 16, 192), weights, True, 1, 0.0, True, False, True)[0],
    ),
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cpu-time", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    now, unit = (time.process_time, "ms of CPU") if arguments.cpu_time else (time.perf_counter, "ms")
    torch.manual_seed(0)
    for name, (shapes, operator) in CASES.items():
        operands = [torch.randn(shape, requires_grad=True) for shape in shapes]
        # A batch's own input has no gradient.
        if name.startswith("3x3 stride 2, 1 to"):
            operands[0].requires_grad_(False)
        y = operator(*operands)
        dy = torch.randn_like(y).contiguous()
        times = []
        for _ in range(18):
            for operand in operands:
                operand.grad = None
            start = now()
            if "forward pass" in name:
                y = operator(*operands)
            y.backward(dy, retain_graph=True)
            times.append((now() - start) * 1e3)
        print(json.dumps({
            "work": f"gradient of {name}, {arguments.threads} thread(s)",
            "value": statistics.median(times[3:]),
            "unit": unit,
        }))


main()
