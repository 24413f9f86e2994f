"""Scores are the same whatever the caller's default device is, which its own code still gets."""

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
    GroupAttributor,
    InfluenceFunction,
    RunAverage,
    SurrogateLambdaSearchCV,
    as_task,
)
from influencekit.groups import KMeansGrouper
from influencekit.training import record_trajectory

pytestmark = pytest.mark.filterwarnings("ignore::influencekit.exceptions.InfluenceKitWarning")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(16, 5)).astype(np.float32)
Y = RNG.integers(0, 3, 16)
CURVATURES = ["auto", "fisher", "hessian", "kfac", "ekfac", "logra", "datainf", "cg", "lissa"]
CURVATURES += ["arnoldi", "nystroem"]


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))


@pytest.fixture
def meta():
    """A default device on which nothing can be computed."""
    yield lambda: torch.set_default_device("meta")
    torch.set_default_device(None)


def attributors():
    made = {name: InfluenceFunction(name, 0.1, random_state=0) for name in CURVATURES}
    made["dot"], made["cos"], made["default"] = GradDot(), GradCos(), InfluenceFunction()
    made["trak"] = TRAK(0.1, random_state=0)
    made["run"] = RunAverage(GradDot(), checkpoints=[net().state_dict()] * 2)
    made["surrogate"] = SurrogateLambdaSearchCV(InfluenceFunction(), random_state=0)
    made["groups"] = GroupAttributor(GradDot(), KMeansGrouper(3, random_state=0))
    how = {"optimizer": "sgd", "lr": 0.01, "n_steps": 2, "random_state": 0}
    made["further"] = FurtherTraining(left_out=np.arange(3), **how)
    return made


@pytest.mark.parametrize("name", list(attributors()))
def test_scores(name, meta):
    task = as_task(net(), loss=nn.CrossEntropyLoss())
    want = attributors()[name].fit(task, X[:12], Y[:12]).score(X[12:], Y[12:])
    attributor = attributors()[name]
    meta()
    got = attributor.fit(task, X[:12], Y[:12]).score(X[12:], Y[12:])
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-8)


def test_a_recorded_run(meta):
    module = net()
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.01)
    inputs, labels = torch.from_numpy(X[:12]), torch.from_numpy(Y[:12])
    with record_trajectory(module, optimizer, n_rows=12) as recorder:
        for rows in torch.arange(12).split(4):
            recorder.rows(rows)
            optimizer.zero_grad()
            F.cross_entropy(module(inputs[rows]), labels[rows]).backward()
            optimizer.step()
    task = as_task(module, loss=nn.CrossEntropyLoss())
    want = AdamWInfluence(recorder).fit(task, X[:12], Y[:12]).score(X[12:], Y[12:])
    meta()
    got = AdamWInfluence(recorder).fit(task, X[:12], Y[:12]).score(X[12:], Y[12:])
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-8)


def test_code_of_the_caller_gets_its_default_device(meta):
    seen = set()

    class Looks(nn.Linear):
        def forward(self, x):
            seen.add(("forward", torch.get_default_device().type))
            return super().forward(x)

    def loss(outputs, targets):
        seen.add(("loss", torch.get_default_device().type))
        return F.cross_entropy(outputs, targets)

    def explained(outputs, targets):
        seen.add(("output", torch.get_default_device().type))
        return outputs[:, 0]

    module, inputs, labels = Looks(5, 3), torch.from_numpy(X), torch.from_numpy(Y)
    meta()
    task = as_task(module, loss=loss)
    GradDot(output=explained).fit(task, inputs[:12], labels[:12]).score(inputs[12:], labels[12:])
    assert seen == {("forward", "meta"), ("loss", "meta"), ("output", "meta")}
    assert torch.get_default_device().type == "meta"
