"""A training step in PyTorch on the CPU: median milliseconds, or megabytes, of forward, CTC, backward, clipping, AdamW.

    python train_step.py --threads 1 [--network reference] [--memory] [--steps 12]

The networks are those of trainer/src/bench/networks, layer by layer. Prints JSON lines {"work", "value", "unit"}.
"""
import argparse
import json
import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F


class Reference(nn.Module):
    """Depthwise and linear layers over rows; 16 utterances of 250 frames."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.depthwise = nn.Conv1d(192, 192, 15, padding=7, groups=192)
            self.norm = nn.LayerNorm(192)
            self.up = nn.Linear(192, 384)
            self.down = nn.Linear(384, 192)

        def forward(self, x):
            y = self.depthwise(x.transpose(1, 2)).transpose(1, 2)
            return x + self.down(F.silu(self.up(self.norm(y))))

    def __init__(self):
        super().__init__()
        blocks = [self.Block() for _ in range(4)]
        self.layers = nn.Sequential(nn.Linear(80, 192), *blocks, nn.Linear(192, 64))
        self.batch = (torch.randn(16, 250, 80),)
        self.vocabulary, self.length = 64, 40

    def forward(self, x):
        return self.layers(x).transpose(0, 1)


def normed(inputs, outputs, kernel, stride=1, relu=True):
    padding = tuple(k // 2 for k in kernel) if isinstance(kernel, tuple) else kernel // 2
    if isinstance(kernel, tuple):
        layers = [nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False), nn.BatchNorm2d(outputs)]
    else:
        layers = [nn.Conv1d(inputs, outputs, kernel, stride, padding, bias=False), nn.BatchNorm1d(outputs)]
    return nn.Sequential(*layers, *([nn.ReLU()] if relu else []))


class Text(nn.Module):
    """3x3 convolutions with batch norm over 32 gray lines of 32 x 128."""

    def __init__(self):
        super().__init__()
        dense = (3, 3)
        self.stem = nn.Sequential(normed(1, 32, dense, 2), normed(32, 64, dense), normed(64, 128, dense, 2))
        self.block = nn.Sequential(normed(128, 128, dense), normed(128, 128, dense, relu=False))
        self.widen = normed(128, 256, (1, 1))
        self.along = normed(256, 256, 3)
        self.head = nn.Conv1d(256, 97, 1)
        self.batch = (torch.randn(32, 1, 32, 128),)
        self.vocabulary, self.length = 97, 8

    def forward(self, x):
        x = self.stem(x)
        x = self.widen(F.relu(x + self.block(x))).mean(2)
        return self.head(self.along(x)).permute(2, 0, 1)


class Attention(nn.Module):
    """Multi-head attention with a bias a head for each relative position up to `reach`."""

    def __init__(self, width, heads, reach=None):
        super().__init__()
        self.heads, self.reach = heads, reach
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.output = nn.Linear(width, width), nn.Linear(width, width)
        self.table = nn.Parameter(torch.zeros(2 * reach + 1, heads)) if reach else None

    def forward(self, x, memory, mask):
        split = lambda y: y.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        bias = ((mask - 1) * 1e9)[:, None, None]
        if self.table is not None:
            at = torch.arange(memory.shape[1])
            distance = (at[None] - at[:, None]).clamp(-self.reach, self.reach) + self.reach
            bias = bias + self.table[distance].permute(2, 0, 1)
        q, k, v = split(self.query(x)), split(self.key(memory)), split(self.value(memory))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.output(y.transpose(1, 2).flatten(2))


class Feed(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width)
        )

    def forward(self, x):
        return x + self.layers(x)


class Teacher(nn.Module):
    """Convolutions over 16 utterances of 500 frames, self-attention over 40 symbols, cross-attention."""

    def __init__(self):
        super().__init__()
        width = 192
        self.stem = normed(80, width, 5, 2)
        self.blocks = nn.ModuleList(normed(width, width, 5) for _ in range(4))
        self.symbols = nn.Embedding(64, width)
        self.text = nn.ModuleList(
            nn.ModuleList([nn.LayerNorm(width), Attention(width, 4, 16), Feed(width)]) for _ in range(2)
        )
        self.before, self.cross = nn.LayerNorm(width), Attention(width, 4)
        self.feed, self.after = Feed(width), nn.LayerNorm(width)
        self.out = nn.Linear(width, 64)
        ids = 1 + torch.arange(16 * 40).reshape(16, 40) * 7 % 63
        self.batch = (torch.randn(16, 80, 500), ids, torch.ones(16, 40))
        self.vocabulary, self.length = 64, 40

    def forward(self, features, ids, mask):
        x = self.stem(features)
        for block in self.blocks:
            x = x + block(x)
        queries = x.transpose(1, 2)
        memory = self.symbols(ids)
        for norm, attention, feed in self.text:
            y = norm(memory)
            memory = feed(memory + attention(y, y, mask))
        x = queries + self.cross(self.before(queries), memory, mask)
        return self.out(self.after(self.feed(x))).transpose(0, 1)


class SpeechTiny(nn.Module):
    """The student of the recipe speech-tiny, causal, over the nine utterances that its row of 4,096 frames holds."""

    class Causal(nn.Module):
        def __init__(self, inputs, outputs, kernel, dilation=1, stride=1, relu=True):
            super().__init__()
            self.left = (kernel - 1) * dilation + 1 - stride
            self.conv = nn.Conv1d(inputs, outputs, kernel, stride, dilation=dilation, bias=False)
            self.norm = nn.BatchNorm1d(outputs)
            self.relu = relu

        def forward(self, x):
            y = self.norm(self.conv(F.pad(x, (self.left, 0))))
            return F.relu(y) if self.relu else y

    def __init__(self):
        super().__init__()
        self.stem = self.Causal(80, 144, 5, stride=2)
        self.blocks = nn.ModuleList(
            nn.Sequential(self.Causal(144, 144, 5, d), self.Causal(144, 144, 5, d, relu=False)) for d in (1, 2, 1, 2)
        )
        self.widen = self.Causal(144, 288, 1)
        self.head = nn.Conv1d(288, 29, 1)
        # 400 frames and the 10 output frames of the delay.
        self.batch = (torch.randn(9, 80, 420),)
        self.vocabulary, self.length = 29, 40

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = F.relu(x + block(x))
        return self.head(self.widen(x)).permute(2, 0, 1)


class SceneTiny(nn.Module):
    """The student of the recipe scene-tiny over the 58 crops of 32 x 128 that its row of 8,192 columns holds."""

    class Block(nn.Module):
        def __init__(self, width, kernel):
            super().__init__()
            padding = tuple(k // 2 for k in kernel)
            self.layers = nn.Sequential(
                nn.Conv2d(width, width, kernel, padding=padding, groups=width, bias=False),
                nn.BatchNorm2d(width),
                normed(width, 2 * width, (1, 1)),
                normed(2 * width, width, (1, 1), relu=False),
            )

        def forward(self, x):
            return x + self.layers(x)

    def __init__(self):
        super().__init__()
        stem, early, quarter, eighth, line = 16, 32, 64, 96, 192
        dense = (3, 3)
        self.layers = nn.Sequential(
            normed(1, stem, dense, 2),
            normed(stem, early, dense),
            normed(early, quarter, dense, 2),
            *(self.Block(quarter, dense) for _ in range(1)),
            normed(quarter, eighth, dense, (2, 1)),
            *(self.Block(eighth, dense) for _ in range(2)),
            nn.Sequential(nn.Conv2d(eighth, line, (4, 1), bias=False), nn.BatchNorm2d(line), nn.ReLU()),
            *(self.Block(line, (1, 7)) for _ in range(4)),
            nn.Conv2d(line, 96, 1),
        )
        self.batch = (torch.randn(58, 1, 32, 128),)
        self.vocabulary, self.length = 96, 8

    def forward(self, x):
        return self.layers(x).squeeze(2).permute(2, 0, 1)


NETWORKS = {
    "reference": Reference,
    "text": Text,
    "teacher": Teacher,
    "speech-tiny": SpeechTiny,
    "scene-tiny": SceneTiny,
}


def resident(key):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(key)) / 1024


def measure(name, arguments):
    torch.manual_seed(0)
    net = NETWORKS[name]()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)
    items = net.batch[0].shape[0]
    targets = 1 + torch.arange(items * net.length).reshape(items, -1) * 7 % (net.vocabulary - 1)

    def step():
        optimizer.zero_grad(set_to_none=True)
        log_probs = net(*net.batch).log_softmax(-1)
        lengths = torch.full((items,), log_probs.shape[0]), torch.full((items,), net.length)
        loss = F.ctc_loss(log_probs, targets, *lengths)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()

    parameters = sum(p.numel() for p in net.parameters())
    about = f"{name} of {parameters} parameters, {arguments.threads} thread(s)"
    if arguments.memory:
        with open("/proc/self/clear_refs", "w") as peak:
            peak.write("5")
        before = resident("VmRSS")
        for _ in range(3):
            step()
        found = {"work": f"memory of a train step, {about}", "value": resident("VmHWM") - before, "unit": "MB"}
    else:
        now, unit = (time.process_time, "ms of CPU") if arguments.cpu_time else (time.perf_counter, "ms")
        times = []
        for _ in range(arguments.steps + 3):
            start = now()
            step()
            times.append((now() - start) * 1e3)
        found = {"work": f"train step, {about}", "value": statistics.median(times[3:]), "unit": unit}
    print(json.dumps(found))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--network", choices=NETWORKS)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--cpu-time", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for name in [arguments.network] if arguments.network else NETWORKS:
        measure(name, arguments)


main()
