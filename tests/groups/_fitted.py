"""A small fitted network, recorded while it was trained, and every attributor of it."""

import numpy as np
import torch
from torch import nn

from influencekit import (
    TRAK,
    AdamWInfluence,
    GradCos,
    GradDot,
    InfluenceFunction,
    LossBaseline,
    SGDInfluence,
    TracIn,
    as_task,
)
from influencekit.curvature import CURVATURES
from influencekit.training import record_trajectory
from tests._shared.nets import tanh_net

N, D, C = 30, 4, 3
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, D))
Y = RNG.integers(0, C, N)
X_TEST, Y_TEST = RNG.normal(size=(5, D)), RNG.integers(0, C, 5)
LABELS = RNG.integers(0, 4, N)


def trained(seed, make_optimizer):
    """Task of a network, and the recording of its training."""
    torch.manual_seed(seed)
    module = tanh_net(D, 6, C)
    optimizer = make_optimizer(module.parameters())
    inputs, targets = torch.tensor(X), torch.tensor(Y)
    with record_trajectory(module, optimizer, N) as recorder:
        for rows in torch.arange(N).split(10) * 10:
            recorder.rows(rows)
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(inputs[rows]), targets[rows]).backward()
            optimizer.step()
    return as_task(module, loss=nn.CrossEntropyLoss()), recorder


TASK, BY_SGD = trained(0, lambda p: torch.optim.SGD(p, lr=0.3, momentum=0.5))
BY_ADAMW, ADAMW = trained(0, lambda p: torch.optim.AdamW(p, lr=0.02))

ATTRIBUTORS = {
    **{name: InfluenceFunction(name, 1e-1, random_state=0) for name in CURVATURES},
    "projected": InfluenceFunction("ggn", 1e-2, projection_dim=16, random_state=0),
    "GradDot": GradDot(),
    "GradCos": GradCos(),
    "TracIn": TracIn(0.1),
    "TRAK": TRAK(1e-2, projection_dim=None),
    "TRAK projected": TRAK(1e-2, projection_dim=16, random_state=0),
    "Loss": LossBaseline(),
    "SGDInfluence": SGDInfluence(BY_SGD),
    "AdamWInfluence": AdamWInfluence(ADAMW),
}


def task_of(name):
    """The task that an attributor is fitted with."""
    return BY_ADAMW if name == "AdamWInfluence" else TASK


def loop(scores, labels, k):
    """Sums over groups, one column after the other."""
    return np.stack([sum(scores[:, i] for i in np.flatnonzero(labels == g)) for g in range(k)], 1)


def per_example(function, x=X, y=Y, module=None):
    """Gradients (n, p) of ``function(outputs, target)``, one row after the other."""
    module, rows = module or TASK.module, []
    for a, b in zip(torch.tensor(x), torch.tensor(y), strict=True):
        grads = torch.autograd.grad(function(module(a[None]), b[None]), list(module.parameters()))
        rows.append(torch.cat([g.reshape(-1) for g in grads]))
    return torch.stack(rows).numpy()
