"""The networks of nets.py in PyTorch, eager and compiled."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

Batch = dict[str, np.ndarray]


def lenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, 10),
    )


class Block(nn.Module):
    def __init__(self, wide_in: int, wide: int, stride: int):
        super().__init__()
        self.first = nn.Conv2d(wide_in, wide, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(wide, wide, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(wide), nn.BatchNorm2d(wide)])
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or wide_in != wide:
            self.shortcut = nn.Sequential(
                nn.Conv2d(wide_in, wide, 1, stride, bias=False), nn.BatchNorm2d(wide)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.norms[0](self.first(x)))
        return torch.relu(self.norms[1](self.second(y)) + self.shortcut(x))


def resnet() -> nn.Module:
    layers = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    wide_in = 64
    for wide, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [Block(wide_in, wide, stride), Block(wide, wide, 1)]
        wide_in = wide
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


class LM(nn.Module):
    def __init__(self, vocabulary: int, units: int):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, units)
        self.rnn = nn.LSTM(units, units, batch_first=True)
        self.output = nn.Linear(units, vocabulary)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.output(self.rnn(self.embedding(tokens))[0])

    def step(self, tokens: torch.Tensor, state: Any) -> Any:
        y, state = self.rnn(self.embedding(tokens[:, None]), state)
        return self.output(y[:, 0]), state


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10)
    )


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def train_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, compiled: bool
) -> Callable[[Batch], Any]:
    loss_fn = nn.CrossEntropyLoss()
    forward = torch.compile(model) if compiled else model

    def step(batch: Batch) -> Any:
        optimizer.zero_grad(set_to_none=True)
        logits = forward(torch.from_numpy(batch["x"]))
        labels = torch.from_numpy(batch["y"])
        loss = loss_fn(logits.flatten(0, -2), labels.flatten())
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def decoding(vocabulary: int, units: int, prompt: np.ndarray) -> Callable[[int], None]:
    """Return what generates so many tokens behind a prompt, one after another, greedily."""
    model = LM(vocabulary, units).eval()
    with torch.inference_mode():
        _, state = model.rnn(model.embedding(torch.from_numpy(prompt)))
    token = torch.zeros(len(prompt), dtype=torch.int64)

    def run(tokens: int) -> None:
        nonlocal state, token
        with torch.inference_mode():
            for _ in range(tokens):
                logits, state = model.step(token, state)
                token = logits.argmax(-1)
            int(token[0])

    return run
