"""Every row scored at every step, against plain loops with a little of the row in each batch."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from influencekit import AdamWInfluence, SGDInfluence, as_task
from influencekit.training import record_trajectory

OPTIMIZERS = {
    "sgd": (SGDInfluence, torch.optim.SGD, {"lr": 0.3, "momentum": 0.8, "weight_decay": 0.01}),
    "adamw": (AdamWInfluence, torch.optim.AdamW, {"lr": 0.05, "weight_decay": 0.1}),
}
SEEN, BATCH = 12, 4


def data():
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(16, 3, generator=generator, dtype=torch.float64)
    return X, (X.sum(1) > 0).long() + (X[:, 0] > 1).long()


def train(name, row=None, share=0.0, removal="renormalize", record=False):
    """Three epochs over the first rows; each batch also has a share of one row."""
    _, optimizer, options = OPTIMIZERS[name]
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    steps = optimizer(module.parameters(), **options)
    X, y = data()
    orders = [torch.randperm(SEEN, generator=torch.Generator().manual_seed(e)) for e in range(3)]
    with record_trajectory(module, steps, n_rows=len(X)) as recorder:
        for rows in torch.cat(orders).split(BATCH):
            recorder.rows(rows)
            steps.zero_grad()
            loss = cross_entropy(module(X[rows]), y[rows], reduction="sum")
            if row is not None:
                loss = loss + share * cross_entropy(module(X[[row]]), y[[row]])
            total = BATCH + (share if removal == "renormalize" else 0.0)
            (loss / total).backward()
            steps.step()
    return (module, recorder.trajectory_) if record else module


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("removal", ["renormalize", "fixed"])
def test_scores_are_the_derivative_by_a_part_of_the_row_in_each_batch(name, removal):
    X, y = data()
    module, trajectory = train(name, record=True)
    attributor = OPTIMIZERS[name][0](trajectory, rows="all", removal=removal)
    task = as_task(module, nn.CrossEntropyLoss())
    scores = attributor.fit(task, X, y).score(X[:5], y[:5])
    h = 1e-4
    for row in (2, 9, 13, 15):  # the last two were never seen
        ends = [train(name, row, h * sign, removal) for sign in (1, -1)]
        with torch.no_grad():
            values = [-cross_entropy(end(X[:5]), y[:5], reduction="none") for end in ends]
        slope = (values[0] - values[1]) / (2 * h)
        np.testing.assert_allclose(scores[:, row], slope * BATCH / SEEN, rtol=1e-5, atol=1e-9)


def test_batches_that_hold_all_rows_have_the_scores_of_the_batches():
    X, y = data()
    torch.manual_seed(0)
    module = nn.Linear(3, 3).double()
    steps = torch.optim.SGD(module.parameters(), lr=0.5)
    with record_trajectory(module, steps, n_rows=len(X)) as recorder:
        for _ in range(5):
            recorder.rows(range(len(X)))
            steps.zero_grad()
            cross_entropy(module(X), y).backward()
            steps.step()
    task = as_task(module, nn.CrossEntropyLoss())
    each = [
        SGDInfluence(recorder.trajectory_, rows=rows).fit(task, X, y).score(X[:4], y[:4])
        for rows in ("batch", "all")
    ]
    np.testing.assert_allclose(each[1], each[0], rtol=1e-9, atol=1e-12)


def test_what_is_about_batches_needs_them():
    X, y = data()
    module, trajectory = train("adamw", record=True)
    task = as_task(module, nn.CrossEntropyLoss())
    attributor = AdamWInfluence(trajectory, rows="all").fit(task, X, y)
    for method in (attributor.step_scores, attributor.taylor_error_proxy):
        with pytest.raises(ValueError, match="rows: got 'all'"):
            method(X[:2], y[:2])
    with pytest.raises(ValueError, match="rows: got 'all' with removal_order"):
        AdamWInfluence(trajectory, rows="all", removal_order="finite").fit(task, X, y)
