"""Gradients, curvature, attributors and training on a device: ``make test-device``.

``make test-slow`` runs them on the CPU, which no other test leaves.
"""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from influencekit import (
    TRAK,
    AdamWInfluence,
    FurtherTraining,
    GradCos,
    GradDot,
    InfluenceFunction,
    as_task,
)
from influencekit.curvature import ConjugateGradient
from influencekit.training import record_trajectory

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(0)
X = torch.from_numpy(RNG.normal(size=(12, 5, 4)).astype(np.float32))
Y = torch.from_numpy(RNG.integers(0, 3, 12))
LOSS = nn.CrossEntropyLoss()


class Last(nn.Module):
    """The outputs of a recurrent layer at the last position."""

    def __init__(self, kind):
        super().__init__()
        self.layer = kind(4, 6, batch_first=True)

    def forward(self, x):
        return self.layer(x)[0][:, -1]


class Half(nn.Module):
    """A part that runs in bfloat16, as under mixed precision."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(20, 6)

    def forward(self, x):
        with torch.autocast(x.device.type, torch.bfloat16):
            return self.layer(x).float()


NETS = {
    "mlp": lambda: nn.Sequential(nn.Flatten(), nn.Linear(20, 6), nn.Tanh(), nn.Linear(6, 3)),
    "convolution": lambda: nn.Sequential(
        nn.Conv1d(5, 3, 2), nn.GroupNorm(1, 3), nn.GELU(), nn.Flatten(), nn.Linear(9, 3)
    ),
    "lstm": lambda: nn.Sequential(Last(nn.LSTM), nn.Linear(6, 3)),  # cuDNN has no backward in eval
    "gru": lambda: nn.Sequential(Last(nn.GRU), nn.Linear(6, 3)),
    "attention": lambda: nn.Sequential(
        nn.TransformerEncoderLayer(4, 2, 8, 0.0, batch_first=True), nn.Flatten(), nn.Linear(20, 3)
    ),
    "autocast": lambda: nn.Sequential(nn.Flatten(), Half(), nn.Tanh(), nn.Linear(6, 3)),
}
METHODS = {
    "cosine": lambda: GradCos(),
    "ggn": lambda: InfluenceFunction("ggn", damping=0.1),
    "fisher": lambda: InfluenceFunction("fisher", damping=0.1, projection_dim=16, random_state=0),
    "hessian": lambda: InfluenceFunction("hessian", damping=0.1),
    "kfac": lambda: InfluenceFunction("kfac", damping=0.1, random_state=0),
    "ekfac": lambda: InfluenceFunction("ekfac", damping=0.1, random_state=0),
    "logra": lambda: InfluenceFunction("logra", damping=0.1, random_state=0),
    "conjugate gradient": lambda: InfluenceFunction(
        ConjugateGradient(rtol=1e-6, random_state=0), damping=0.1
    ),
    "trak": lambda: TRAK(projection_dim=16, random_state=0),
    "further training": lambda: FurtherTraining(n_steps=3, lr=0.05, random_state=0),
}


def made(name, device="cpu"):
    torch.manual_seed(0)
    return NETS[name]().to(device).eval()


def close(found, expected, tolerance=2e-3):
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * abs(expected).max())


@pytest.mark.parametrize("name", list(NETS))
def test_gradients_are_those_of_autograd_one_example_at_a_time(name, device):
    net = made(name)
    rows = []
    for x, y in zip(X, Y, strict=True):
        loss = F.cross_entropy(net(x[None]), y[None])
        found = torch.autograd.grad(loss, list(net.parameters()))
        rows.append(torch.cat([g.flatten() for g in found]).double())
    rows = torch.stack(rows)
    scores = GradDot(batch_size=5).fit(as_task(made(name, device), LOSS), X, Y).score(X[:3], Y[:3])
    close(scores, (rows[:3] @ rows.T).numpy(), 0.05 if name == "autocast" else 1e-4)


@pytest.mark.filterwarnings("ignore::influencekit.exceptions.InfluenceKitWarning")
@pytest.mark.parametrize("name", list(METHODS))
def test_methods_score_as_on_the_cpu(name, device):
    here, there = (
        METHODS[name]().fit(as_task(made("mlp", at), LOSS), X, Y).score(X[:3], Y[:3])
        for at in (device, torch.device("cpu"))
    )
    assert np.isfinite(here).all() and (here != 0).any()
    close(here, there)


@pytest.mark.parametrize("name", ["mlp", "attention"])
def test_a_run_is_recorded_and_replayed(name, device):
    net = made(name, device).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    data, targets = X.to(device), Y.to(device)
    with record_trajectory(net, optimizer, len(X), every=2) as recorder:
        for rows in np.arange(12).reshape(3, 4):
            recorder.rows(rows)
            optimizer.zero_grad()
            F.cross_entropy(net(data[rows]), targets[rows]).backward()
            optimizer.step()
    influence = AdamWInfluence(recorder).fit(as_task(net, LOSS), X, Y)  # compares the replay
    assert np.isfinite(influence.score(X[:2], Y[:2])).all()
