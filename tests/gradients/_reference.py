"""Slow dense references, a tiny stand-in for Examples, and models to test on."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from influencekit.models import CrossEntropy, CustomLoss, SquaredError, Task

DTYPE = torch.float64


class Batch(NamedTuple):
    inputs: Any
    targets: Tensor | None
    rows: slice


def _rows(inputs, rows):
    if isinstance(inputs, dict):
        return {k: v[rows] for k, v in inputs.items()}
    if isinstance(inputs, tuple):
        return tuple(v[rows] for v in inputs)
    return inputs[rows]


class TinyExamples:
    """The interface of influencekit.data.Examples around tensors in memory."""

    sparse_matrix = None

    def __init__(self, inputs, targets=None):
        self.inputs, self.targets = inputs, targets
        first = inputs
        while not isinstance(first, Tensor):
            first = next(iter(first.values() if isinstance(first, dict) else first))
        self.n_examples = len(first)

    def __len__(self):
        return self.n_examples

    def batches(self, batch_size):
        for start in range(0, self.n_examples, batch_size):
            rows = slice(start, min(self.n_examples, start + batch_size))
            targets = None if self.targets is None else self.targets[rows]
            yield Batch(_rows(self.inputs, rows), targets, rows)

    def take(self, rows):
        targets = None if self.targets is None else self.targets[rows]
        return TinyExamples(_rows(self.inputs, rows), targets)


def make_task(module: nn.Module, loss=None) -> Task:
    """A Task in float64 around a module in eval mode; frozen parameters stay frozen."""
    return Task(module.to(DTYPE).eval(), loss or CrossEntropy())


def sum_of_squares() -> CustomLoss:
    """A loss for any output shape that needs no targets."""
    return CustomLoss(lambda outputs, targets: (outputs.flatten(1).sin() ** 2).sum(1))


def autograd_rows(task: Task, examples: TinyExamples, cotangent) -> Tensor:
    """(n * R, p) by one forward and one backward pass an example and row."""
    rows = []
    wanted = tuple(task.parameters.values())
    for batch in examples.batches(1):
        outputs = task.forward(batch.inputs)
        cotangents = cotangent(outputs.detach(), batch.targets)
        for r in range(cotangents.shape[1]):
            grads = torch.autograd.grad(
                outputs, wanted, cotangents[:, r], retain_graph=True, allow_unused=True
            )
            parts = [
                torch.zeros_like(p).flatten() if g is None else g.flatten()
                for g, p in zip(grads, wanted, strict=True)
            ]
            rows.append(torch.cat(parts))
    return torch.stack(rows)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=DTYPE)


def integers(high: int, *shape: int, seed: int = 0) -> Tensor:
    return torch.randint(high, shape, generator=generator(seed))


def mlp(d_in=5, hidden=7, d_out=3, seed=0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(d_in, hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, hidden),
        nn.Tanh(),
        nn.Linear(hidden, d_out),
    )


def mlp_problem(n=11, **kwargs):
    task = make_task(mlp(**kwargs))
    return task, TinyExamples(normal(n, 5), integers(3, n))


def regression_problem(n=9):
    task = make_task(mlp(d_out=2), SquaredError(0.5))
    return task, TinyExamples(normal(n, 5), normal(n, 2, seed=1))
