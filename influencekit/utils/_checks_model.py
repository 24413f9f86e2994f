"""Checks that attributors and the user's model do not change each other."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from skorch import NeuralNetClassifier
from torch import Tensor, nn

from influencekit.utils._checks_common import fit, problem, quietly, reads_trees, require, same

__all__ = ["check_model_untouched", "check_snapshot"]


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Dropout(0.5), nn.Linear(5, 3))

    def forward(self, X: Any) -> Tensor:
        return self.layers(X)


@cache
def _fitted_net() -> Any:
    """Tiny skorch net, left in training mode."""
    _, X, y, _, _ = problem()
    net = NeuralNetClassifier(
        _Net, criterion=nn.CrossEntropyLoss, max_epochs=3, train_split=None, verbose=0
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net.fit(X.astype(np.float32), y)
    net.module_.train()
    return net


@quietly
def check_model_untouched(attributor: Any) -> None:
    """Fit and score do not change the user's model or the random number generators."""
    model, X, y, X_test, y_test = problem(attributor)
    before = copy.deepcopy(vars(model))
    with _generators_untouched():
        fit(attributor, model, X, y).score(X_test, y_test)
    require(set(vars(model)) == set(before), "the model's attributes were changed.")
    for name in ("coef_", "intercept_"):
        now, then = np.asarray(getattr(model, name, None)), np.asarray(before.get(name))
        equal = np.array_equal(now, then)
        require(equal, f"the model's {name} was changed.")
    if reads_trees(attributor):
        equal = np.array_equal(model.predict_proba(X), problem(attributor)[0].predict_proba(X))
        require(equal, "the model's predictions were changed.")
    else:
        _check_net_untouched(attributor)


@contextmanager
def _generators_untouched() -> Iterator[None]:
    """Require that the global generators, set to an unusual state, do not change."""
    outside = np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        np.random.seed(1634)  # noqa: NPY002
        torch.manual_seed(1634)
        state = torch.get_rng_state()
        try:
            yield
            drawn = np.random.random_sample()  # noqa: NPY002
            expected = np.random.RandomState(1634).random_sample()
            require(drawn == expected, "numpy's global generator was used.")
            require(torch.equal(torch.get_rng_state(), state), "torch's generator was used.")
        finally:
            np.random.set_state(outside)  # noqa: NPY002


def _check_net_untouched(attributor: Any) -> None:
    _, X, y, X_test, y_test = problem()
    X, X_test = X.astype(np.float32), X_test.astype(np.float32)
    fitted = copy.deepcopy(_fitted_net())
    net = fitted.module_
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    state = copy.deepcopy(net.state_dict())
    fit(clone(attributor), fitted, X, y).score(X_test, y_test)
    require(fitted.module_ is net, "the net's module was replaced.")
    equal = all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    require(equal, "the net's weights were changed.")
    require(all(m.training for m in net.modules()), "the net's training mode was changed.")
    equal = all(p.grad is not None and bool((p.grad == 1).all()) for p in net.parameters())
    require(equal, "the net's gradients were changed.")
    hooks = any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())  # noqa: SLF001  torch has no other name
    require(not hooks, "hooks were left on the net.")


@quietly
def check_snapshot(attributor: Any) -> None:
    """Changing the model after fit does not change the scores."""
    model, X, y, X_test, y_test = problem(attributor)
    fitted = fit(attributor, model, X, y)
    expected = fitted.score(X_test, y_test)
    if reads_trees(attributor):
        model.fit(X, np.roll(y, 7))
    else:
        model.coef_ += 1.0
    same(fitted.score(X_test, y_test), expected, "after the model was changed")
