"""Without ``max_memory``, neither route nor bits depend on the memory that is free."""

import warnings

import numpy as np
import pytest
import scipy.sparse
import torch
from sklearn.base import clone
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import LogisticRegression
from skorch import NeuralNetClassifier
from torch import nn

from influencekit import (
    LESS,
    TRAK,
    FurtherTraining,
    GradCos,
    GradDot,
    InfluenceFunction,
    SGDInfluence,
    TreeInfluence,
    as_task,
)
from influencekit.curvature.exact import _unheld
from influencekit.exceptions import ResourceError
from influencekit.gradients._gradients import Gradients
from influencekit.training import TrajectoryRecorder
from influencekit.utils import _archives, _long_work

#: Bytes that fit less than the factors of 24 examples, and more than their coordinates.
BUDGET = 2**20
#: Bytes that are free on a machine that is nearly full, and on a very large one.
SMALL, LARGE = 64 * 2**20, 2**42


@pytest.fixture
def held(monkeypatch):
    """What was kept in memory at once, in bytes, in the order of the calls."""
    found, original = [], Gradients.held

    def noted(self, memory, *, spill=False):
        kept = original(self, memory, spill=spill)
        found.append((kept.is_held, len(self), type(kept.parts).__name__))
        return kept

    monkeypatch.setattr(Gradients, "held", noted)
    return found


def free(monkeypatch, n_bytes):
    """A machine with so many bytes free."""
    for module in (_long_work, _archives):
        monkeypatch.setattr(module, "free_memory", lambda _device=None: n_bytes)


def scored(attributor, n_bytes, monkeypatch):
    """Scores of a small CNN on a machine with so many bytes free."""
    free(monkeypatch, n_bytes)
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(288, 5),
    ).eval()  # fmt: skip
    X, y = torch.randn(28, 2, 8, 8), torch.arange(28) % 5
    task = as_task(net, loss=nn.CrossEntropyLoss())
    if isinstance(attributor, str):
        attributor = InfluenceFunction(attributor, damping=0.1, random_state=0, batch_size=4)
    return attributor.fit(task, X[:24], y[:24]).score(X[24:], y[24:])


def same_on_both(monkeypatch, made):
    """What a function makes is the same, bit by bit, on both machines."""
    found = []
    for n_bytes in (SMALL, LARGE):
        free(monkeypatch, n_bytes)
        found.append(made())
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize(
    "curvature", ["kfac", "ekfac", "ggn", "fisher", "logra", "datainf", "cg", "nystroem"]
)
def test_same_bits_and_the_same_held_whatever_is_free(curvature, held, monkeypatch):
    monkeypatch.setattr(_long_work, "HELD", BUDGET)
    small = scored(curvature, SMALL, monkeypatch)
    of_small, held[:] = list(held), []
    large = scored(curvature, LARGE, monkeypatch)
    np.testing.assert_array_equal(small, large)
    assert held == of_small


@pytest.mark.parametrize(
    "attributor",
    [
        GradDot(), GradCos(), TRAK(projection_dim=16, random_state=0),
        InfluenceFunction(random_state=0),
        InfluenceFunction("fisher", projection_dim=32, random_state=0),
        InfluenceFunction("lissa", damping=1.0, random_state=0),
    ],
    ids=repr,
)  # fmt: skip
def test_same_bits_with_batches_that_are_chosen(attributor, held, monkeypatch):
    small = scored(attributor, SMALL, monkeypatch)
    of_small, held[:] = list(held), []
    np.testing.assert_array_equal(small, scored(attributor, LARGE, monkeypatch))
    assert held == of_small


def test_rows_of_a_kronecker_curvature_are_held_within_the_budget(held, monkeypatch):
    scored("ekfac", LARGE, monkeypatch)
    assert all(is_held for is_held, *_ in held)
    held.clear()
    monkeypatch.setattr(_long_work, "HELD", BUDGET)
    bounded = scored("ekfac", LARGE, monkeypatch)
    assert "list" not in {kind for _, n, kind in held if n == 24}
    monkeypatch.setattr(_long_work, "HELD", 2**40)
    np.testing.assert_allclose(bounded, scored("ekfac", LARGE, monkeypatch), rtol=1e-4)


@pytest.mark.parametrize("sparse", [True, False])
def test_linear_models_whose_coordinates_are_not_held(sparse, held, monkeypatch):
    monkeypatch.setattr(_unheld, "LONG", 200)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 40)) * (rng.random((300, 40)) < 0.2)
    y = (X[:, 0] + rng.normal(size=300) > 0).astype(int)
    X = scipy.sparse.csr_matrix(X) if sparse else X
    model = LogisticRegression().fit(X, y)
    same_on_both(monkeypatch, lambda: InfluenceFunction().fit(model, X, y).score(X[:5], y[:5]))
    half = len(held) // 2
    assert held[:half] == held[half:]


def test_trees_runs_and_further_training(monkeypatch):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 6)).astype(np.float32)
    y = (X[:, 1] > 0).astype(int)
    trees = GradientBoostingRegressor(n_estimators=5, max_depth=2).fit(X, X[:, 0])
    torch.manual_seed(0)
    net = NeuralNetClassifier(
        nn.Sequential(nn.Linear(6, 64), nn.Tanh(), nn.Linear(64, 2)), verbose=0, lr=0.05,
        criterion=nn.CrossEntropyLoss, max_epochs=2, batch_size=8, train_split=None,
        callbacks=[TrajectoryRecorder()],
    ).fit(X, y)  # fmt: skip
    further = FurtherTraining(epochs=1, optimizer="sgd", lr=0.01, random_state=0)
    for attributor, model, targets in (
        (TreeInfluence(), trees, X[:, 0]), (SGDInfluence(), net, y), (LESS(), net, y),
        (SGDInfluence(removal="fixed", removal_order="finite"), net, y), (further, net, y),
    ):  # fmt: skip
        same_on_both(
            monkeypatch,
            lambda one=attributor, model=model, targets=targets: (
                clone(one).fit(model, X, targets).score(X[:9], targets[:9])
            ),
        )


def test_what_does_not_fit_is_refused_before_work_begins(monkeypatch):
    passes = []
    monkeypatch.setattr(nn.Flatten, "forward", lambda _, x: passes.append(len(x)) or x.flatten(1))
    with pytest.raises(ResourceError, match=r"half of the free memory is .* MB"):
        scored(InfluenceFunction("hessian", damping=0.1), SMALL, monkeypatch)
    with pytest.raises(ResourceError, match=r"half of the free memory is .* [Ss]et max_memory"):
        scored(InfluenceFunction("fisher", projection_dim=2000, random_state=0), SMALL, monkeypatch)
    assert max(passes) <= 6  # trials of a few examples


def test_a_budget_is_a_limit_whatever_is_free(monkeypatch):
    attributor = InfluenceFunction("ggn", projection_dim=2000, max_memory="16MB", random_state=0)
    with pytest.raises(ResourceError, match=r"max_memory is 16\.0 MB"):
        scored(attributor, LARGE, monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it projects
        given = InfluenceFunction(max_memory="16MB", damping=0.1, random_state=0)
        same_on_both(monkeypatch, lambda: scored(given, _long_work.free_memory(), monkeypatch))
