"""One training step of the reference network in PyTorch on the CPU: median time of a step in milliseconds.

linear 80 -> 192; four times (depthwise k15 -> layer norm -> 192 -> 384 -> SiLU -> 384 -> 192 -> residual);
linear -> 64: 633,856 parameters. Batch 16 x 250 frames, CTC over targets of 40 symbols, AdamW (fused).

    python train_step.py --threads 1 [--steps 15]

Prints JSON lines {"work", "value", "unit"}.
"""
import argparse
import json
import statistics
import time

import torch
from torch import nn


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.depthwise = nn.Conv1d(192, 192, 15, padding=7, groups=192)
        self.norm = nn.LayerNorm(192)
        self.up = nn.Linear(192, 384)
        self.down = nn.Linear(384, 192)

    def forward(self, x):
        y = self.depthwise(x.transpose(1, 2)).transpose(1, 2)
        y = self.down(nn.functional.silu(self.up(self.norm(y))))
        return x + y


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--steps", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(80, 192), *[Block() for _ in range(4)], nn.Linear(192, 64))
    assert sum(p.numel() for p in net.parameters()) == 633_856
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)
    x = torch.randn(16, 250, 80)
    targets = torch.randint(1, 64, (16, 40))
    lengths = torch.full((16,), 250), torch.full((16,), 40)
    times = []
    for _ in range(arguments.steps + 3):
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        log_probs = net(x).log_softmax(-1).transpose(0, 1)
        loss = nn.functional.ctc_loss(log_probs, targets, *lengths)
        loss.backward()
        optimizer.step()
        times.append((time.perf_counter() - start) * 1e3)
    print(json.dumps({
        "work": f"train step, reference student, {arguments.threads} thread(s)",
        "value": statistics.median(times[3:]),
        "unit": "ms",
    }))


main()
