"""Threads that share one fitted attributor get what they would get alone."""

import copy
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from influencekit import AdamWInfluence, FurtherTraining, GradDot, InfluenceFunction, as_task
from influencekit.curvature import LiSSA
from influencekit.training import record_trajectory, trajectory_leave_one_out
from tests._shared.marks import NOT_TRAINED


class Scaled(nn.Module):
    """A bare parameter has no layer, so its gradients take the dense fallback."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 3)
        self.scale = nn.Parameter(torch.ones(8))

    def forward(self, X):
        return self.last(torch.tanh(self.first(X)) * self.scale)


@pytest.mark.parametrize(
    "net",
    [Scaled(), nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))],
    ids=["dense", "factored"],
)
def test_parts_scored_in_threads(net):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 4)).astype(np.float32), rng.integers(0, 3, 40)
    fitted = GradDot().fit(as_task(net, nn.CrossEntropyLoss()), X, y)
    parts = [slice(i, i + 5) for i in range(30)]
    expected = [fitted.score(X[part], y[part]) for part in parts]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for _ in range(3):
            with ThreadPoolExecutor(4) as pool:
                found = pool.map(lambda part: fitted.score(X[part], y[part]), parts)
                for a, b in zip(found, expected, strict=True):
                    np.testing.assert_allclose(a, b, atol=1e-6)
    finally:
        sys.setswitchinterval(interval)


class Encoder(nn.Module):
    """Takes the fast path of torch's encoder, with nested tensors where rows are masked."""

    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(4, 2, 6, 0.0, batch_first=True)
        self.body, self.last = nn.TransformerEncoder(layer, 1), nn.Linear(4, 3)
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, x, mask):
        return self.last((self.body(x, src_key_padding_mask=mask) * self.scale).mean(1))


def masked(n=20):
    rng = np.random.default_rng(0)
    mask = np.arange(5) >= rng.integers(2, 6, n)[:, None]
    return {"x": rng.normal(size=(n, 5, 4)), "mask": mask}, rng.integers(0, 3, n)


def few(data, rows):
    return {name: values[rows] for name, values in data.items()}


def recorded_encoder(data, y):
    torch.manual_seed(0)
    net = Encoder().double()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    inputs = {name: torch.as_tensor(values) for name, values in data.items()}
    with record_trajectory(net, optimizer, len(y)) as recorder:
        for rows in np.arange(len(y)).reshape(4, -1):
            recorder.rows(rows)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(**few(inputs, rows)), torch.as_tensor(y[rows]))
            loss.backward()
            optimizer.step()
    return as_task(net, nn.CrossEntropyLoss()), recorder.trajectory_


@NOT_TRAINED
def test_different_methods_on_one_task_at_once():
    """Copies, forward-mode derivatives, hooks, replaced parameters and kernel switches together."""
    data, y = masked()
    task, trajectory = recorded_encoder(data, y)
    asked = few(data, slice(4)), y[:4]
    further = FurtherTraining("sgd", 0.1, n_steps=2, n_repeats=1, left_out=[0, 1], random_state=0)
    along = AdamWInfluence(trajectory).fit(task, data, y)
    dot = GradDot().fit(task, data, y)
    solver = LiSSA(rows_per_step=None, depth=3, random_state=0)
    jobs = [
        lambda: further.__class__(**further.get_params()).fit(task, data, y).score(*asked),
        lambda: along.taylor_error_proxy(*asked, [0, 1]).proxy,
        lambda: InfluenceFunction(solver, damping=50.0).fit(task, data, y).score(*asked),
        lambda: pickle.loads(pickle.dumps(copy.deepcopy(dot))).score(*asked),
        lambda: dot.score(*asked),
        lambda: (
            trajectory_leave_one_out(
                task, data, y, *asked, left_out=[0], trajectory=trajectory
            ).scores
        ),
    ]
    expected = [job() for job in jobs]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda i: jobs[i % len(jobs)](), range(3 * len(jobs))))
    finally:
        sys.setswitchinterval(interval)
    for i, result in enumerate(found):
        np.testing.assert_array_equal(result, expected[i % len(jobs)])
