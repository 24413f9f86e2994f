"""A plain training loop with torch's own optimizers, with or without one row."""

import numpy as np
import torch
from torch import nn

from influencekit import as_task
from influencekit.training import record_trajectory
from tests.training._training_nets import Dropped, Logits, make_data

X, Y = make_data(30)
XT, YT = (torch.as_tensor(a) for a in make_data(30))
BATCH, EPOCHS = 8, 3

#: name: (optimizer, options)
OPTIMIZERS = {
    "sgd": (torch.optim.SGD, {"lr": 0.2}),
    "nesterov": (
        torch.optim.SGD,
        {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    ),
    "dampened": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.8, "dampening": 0.3}),
    "adam": (torch.optim.Adam, {"lr": 0.02, "weight_decay": 0.1}),
    "adamw": (torch.optim.AdamW, {"lr": 0.02, "weight_decay": 0.1, "betas": (0.8, 0.95)}),
    "amsgrad": (torch.optim.AdamW, {"lr": 0.05, "amsgrad": True}),
}


def batches(size=BATCH):
    """Rows of every step; the last batch of an epoch is ragged."""
    rng = np.random.default_rng(5)
    orders = [rng.permutation(len(X)) for _ in range(EPOCHS)]
    return [order[i : i + size] for order in orders for i in range(0, len(X), size)]


def make_module(kind=Logits):
    torch.manual_seed(3)
    return kind()


def train(
    module,
    optimizer="adamw",
    *,
    without=None,
    removal="renormalize",
    reduction="mean",
    max_norm=None,
    two_groups=False,
    size=BATCH,
    record=None,
):
    """Train in place; leave one row out; return the trajectory if ``record``."""
    cls, options = OPTIMIZERS[optimizer]
    own = list(module.parameters())
    groups = [{"params": own[:2]}, {"params": own[2:], "lr": 0.03, "weight_decay": 0.05}]
    optim = cls(groups if two_groups else own, **options)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optim, len(batches(size)))
    if record is not None:
        with record_trajectory(
            module, optim, len(X), every=4, max_norm=max_norm, reduction=reduction
        ) as recorder:
            _loop(module, optim, schedule, None, removal, reduction, max_norm, size, recorder)
        return recorder.trajectory_
    return _loop(module, optim, schedule, without, removal, reduction, max_norm, size)


def _loop(module, optim, schedule, without, removal, reduction, max_norm, size, recorder=None):
    module.train()
    for step, rows in enumerate(batches(size)):
        torch.manual_seed(100 + step)  # dropout's noise
        if recorder is not None:
            recorder.rows(rows)
        optim.zero_grad()
        losses = nn.functional.cross_entropy(module(XT[rows]), YT[rows], reduction="none")
        kept = losses[torch.as_tensor(rows != without)] if without is not None else losses
        if reduction == "sum":
            value = kept.sum()
        elif removal == "fixed" or not len(kept):
            value = kept.sum() / len(rows)
        else:
            value = kept.mean()
        value.backward()
        if max_norm is not None:
            nn.utils.clip_grad_norm_(module.parameters(), max_norm)
        optim.step()
        schedule.step()
    module.eval()


def recorded(kind=Logits, optimizer="adamw", **options):
    """A trained Task and its trajectory."""
    module = make_module(kind)
    trajectory = train(module, optimizer, record=True, **options)
    return as_task(module, loss=nn.CrossEntropyLoss()), trajectory


def losses_alone(rows, kind=Logits, optimizer="adamw", **options):
    """Losses (n_runs, n_test) of runs one by one; None in ``rows`` is the full run."""
    found = []
    for row in rows:
        module = make_module(kind)
        train(module, optimizer, without=row, **options)
        with torch.no_grad():
            loss = nn.functional.cross_entropy(module(XT[:6]), YT[:6], reduction="none")
        found.append(loss.numpy())
    return np.stack(found)


__all__ = ["OPTIMIZERS", "Dropped", "losses_alone", "make_module", "recorded", "train"]
