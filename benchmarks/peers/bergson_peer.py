"""Methods of bergson: per-example gradients from hooks on the linear layers.

It is made for language models: activations are expected as (rows, positions, features), so that a
net of rows is given one position.  The collector is its own; kept are each batch's gradients, and
inner products are taken over layers as its scorer does.  Nothing to translate but the factor n.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from bergson.collector.collector import HookCollectorBase
from bergson.gradients import GradientProcessor
from torch import nn
from torch.nn import functional as F

from benchmarks.problems.tensors import Problem

PACKAGE = "bergson"
BATCH = 250


def default_damping(method: str, n: int) -> float:
    """Damping of the mean curvature that the library takes when none is given."""
    return 0.0


class OnePosition(nn.Module):
    """A net of rows as one of sequences of length one."""

    def __init__(self, layers: nn.Module):
        super().__init__()
        self.layers = layers

    def forward(self, X):
        return self.layers(X[:, None])[:, 0]


@dataclass(kw_only=True)
class Kept(HookCollectorBase):
    """Gradients of the last batch, by layer."""

    found: dict = field(default_factory=dict)

    def setup(self) -> None:
        self.save_dtype = next(self.model.parameters()).dtype

    def teardown(self) -> None:
        self.found.clear()

    def backward_hook(self, module, g) -> None:
        self.found[module._name] = self._compute_gradient(module, g)  # noqa: SLF001  the peer has no other name

    def process_batch(self, indices, **kwargs) -> None:
        pass


def _gradients(model: nn.Module, X, y):
    """Gradients (rows, parameters) of each batch, a tensor a layer."""
    collector = Kept(model=model, processor=GradientProcessor(include_bias=True))
    for inputs, targets in zip(X.split(BATCH), y.split(BATCH), strict=True):
        with collector.with_batch(None):
            inputs = inputs.clone().requires_grad_(True)
            F.cross_entropy(model(inputs), targets, reduction="sum").backward()
        model.zero_grad()
        yield dict(collector.found)


def _products(problem: Problem, state: dict) -> torch.Tensor:
    layers = problem.fresh_model()
    layers.load_state_dict(state)
    model = OnePosition(layers)
    queries = list(_gradients(model, problem.X_test, problem.y_test))
    queries = {name: torch.cat([part[name] for part in queries]) for name in queries[0]}
    blocks = [
        sum(queries[name] @ g.T for name, g in batch.items())
        for batch in _gradients(model, problem.X, problem.y)
    ]
    return torch.cat(blocks, 1)


def graddot(problem: Problem):
    scores = _products(problem, problem.model.state_dict())
    return scores.numpy() / problem.n, {"include_bias": True}


def tracin(problem: Problem):
    total = sum(weight * _products(problem, state) for state, weight in problem.checkpoints)
    return total.numpy(), {"include_bias": True}


METHODS = {"graddot": graddot, "tracin": tracin}
ONLY_TINY: set[str] = set()
