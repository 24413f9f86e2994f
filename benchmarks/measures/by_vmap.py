"""Per-example gradients by ``vmap(grad)`` of torch.func: what our own engine is compared with."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.harness.measure import cost_of
from benchmarks.problems import data, nets
from influencekit import TRAK, GradDot, InfluenceFunction, as_task

DIM, DAMPING = 1024, 1e-2


def gradients(module: nn.Module):
    """Function of rows and targets: gradients of each row's loss, a tensor a parameter."""
    parameters = {name: p.detach() for name, p in module.named_parameters()}

    def loss(values, x, y):
        output = torch.func.functional_call(module, values, (x[None],))
        return F.cross_entropy(output, y[None])

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))
    return lambda x, y: [g.flatten(1) for g in each(parameters, x, y).values()]


def dot(module: nn.Module, a: tuple, b: tuple, chunk: int) -> Tensor:
    """Dot products of dense gradients: b's once, a's a chunk at a time."""
    dense = gradients(module)
    parts = [dense(*(t[i : i + chunk] for t in b)) for i in range(0, len(b[0]), chunk)]
    right = [torch.cat(pieces) for pieces in zip(*parts, strict=True)]
    rows = []
    for i in range(0, len(a[0]), chunk):
        left = dense(*(t[i : i + chunk] for t in a))
        rows.append(sum(g @ h.T for g, h in zip(left, right, strict=True)))
    return torch.cat(rows)


# ---- one problem of groups_cost, made once a run ----------------------------------------------


@cache
def problem(n: int, m: int):
    """Task, training rows and test rows of an MLP 784-120-40-10."""
    if data.has(data.MNIST):
        X, y = data.mnist("train")
    else:
        X, y = data.digits()
        X = np.kron(X.reshape(-1, 8, 8), np.ones((1, 4, 4)))[:, 2:30, 2:30]
        X, y = X.reshape(len(X), -1).astype(np.float32), y.astype(np.int64)
    rows = np.random.RandomState(0).permutation(len(X))
    train, test = rows[:n], rows[n : n + m]
    torch.manual_seed(0)
    module = nets.stack_of_layers((784, 120, 40, 10))
    inputs, targets = torch.as_tensor(X[train]), torch.as_tensor(y[train])
    nets.train(module, inputs, targets, epochs=5, batch=100, lr=0.1)
    task = as_task(module, loss=nn.CrossEntropyLoss())
    return task, X[train], y[train], X[test], y[test]


@cache
def seconds(n: int, m: int, part: int = 1000, chunk: int = 250) -> dict:
    """Seconds of gradients by vmap, dotted or projected, extrapolated to all rows."""
    task, X, y, *_ = problem(n, m)
    part = min(part, n)
    each = gradients(task.module)
    inputs, targets = torch.as_tensor(X[:part]), torch.as_tensor(y[:part])
    queries = torch.randn(m, task.n_parameters)
    projection = torch.randn(task.n_parameters, DIM) / DIM**0.5
    found = {}
    for name, other in (("GradDot", queries.T), ("Fisher", projection), ("TRAK", projection)):

        def job(other=other):
            for rows in torch.arange(part).split(chunk):
                torch.cat(each(inputs[rows], targets[rows]), dim=1) @ other

        found[name] = cost_of(job)[0]["seconds"] * n / part
    return found


_POINTS: dict = {}


def points(n: int, m: int, name: str, attributor) -> tuple[float, np.ndarray]:
    """Seconds and scores of an attributor of single rows, by its name."""
    if (n, m, name) not in _POINTS:
        task, X, y, X_test, y_test = problem(n, m)
        cost, scores = cost_of(lambda: attributor.fit(task, X, y).score(X_test, y_test))
        _POINTS[n, m, name] = cost["seconds"], scores
    return _POINTS[n, m, name]


def methods(points):
    """Point scores are projected; the k x k forms need not be."""
    options = {"projection_dim": DIM, "random_state": 0} if points else {}
    return {
        "GradDot": GradDot(),
        "Fisher": InfluenceFunction("fisher", DAMPING, **options),
        "TRAK": TRAK(DAMPING, **({"projection_dim": None} | options)),
    }
