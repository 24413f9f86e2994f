"""Checks that every attributor should pass, for this package's and for your own.

Use them from pytest::

    from influencekit.utils.estimator_checks import parametrize_with_checks

    @parametrize_with_checks([MyAttributor()])
    def test_attributor(attributor, check):
        check(attributor)
"""

from __future__ import annotations

import copy
import inspect
import io
import pickle
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from unittest import mock

import joblib
import numpy as np
import torch
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_html_repr
from skorch import NeuralNetClassifier
from torch import nn

__all__ = ["check_attributor", "parametrize_with_checks", "yield_checks"]

_TOLERANCE = {"rtol": 1e-6, "atol": 1e-9}


def parametrize_with_checks(attributors, *, expected_failed_checks: Callable | None = None):
    """Pytest decorator that runs every check on every attributor.

    Parameters
    ----------
    attributors : list of attributors
    expected_failed_checks : callable or None, default=None
        ``expected_failed_checks(attributor) -> dict`` of check name to reason; those tests are
        marked as expected to fail.

    Returns
    -------
    pytest.mark.parametrize decorator
        Over ``attributor`` and ``check``, where ``check(attributor)`` raises AssertionError.
    """
    import pytest

    cases = []
    for attributor in attributors:
        expected = expected_failed_checks(attributor) if expected_failed_checks else {}
        for check in yield_checks():
            reason = expected.get(check.__name__)
            marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
            name = f"{type(attributor).__name__}-{check.__name__}"
            cases.append(pytest.param(attributor, check, id=name, marks=marks))
    return pytest.mark.parametrize(("attributor", "check"), cases)


def check_attributor(attributor) -> None:
    """Run every check on one attributor.

    Parameters
    ----------
    attributor : attributor

    Raises
    ------
    AssertionError
        At the first check that fails.
    """
    for check in yield_checks():
        check(attributor)


def yield_checks() -> Iterator[Callable]:
    """Yield every check, a function of an unfitted attributor."""
    yield check_clone_and_params
    yield check_repr_computes_nothing
    yield check_shape_and_finite
    yield check_serialisation
    yield check_model_untouched
    yield check_snapshot
    yield check_test_permutation
    yield check_train_permutation
    yield check_test_subset
    yield check_duplicates
    yield check_batch_size_independence
    yield check_input_kinds
    yield check_transform_and_names
    yield check_top_k
    yield check_pipeline_misuse
    yield check_bad_values
    yield check_threads
    yield check_unfitted


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def _quiet(check: Callable) -> Callable:
    """Silence warnings, which are not what the checks are about, and copy the attributor."""

    @wraps(check)
    def quiet(attributor):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check(clone(attributor))

    return quiet


def _problem():
    """Small classification problem: train and test arrays and a fitted model."""
    X, y = load_iris(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(X))
    X, y = X[order], y[order]
    model = LogisticRegression(C=1.0, max_iter=1000).fit(X[:60], y[:60])
    return model, X[:60], y[:60], X[60:72], y[60:72]


def _fit(attributor, model, X, y):
    """Fit, giving queries to the searches that take them."""
    options = {}
    if "X_query" in inspect.signature(attributor.fit).parameters:
        _, _, _, X_test, y_test = _problem()
        options = {"X_query": X_test, "y_query": y_test}
    return attributor.fit(model, X, y, **options)


def _fitted(attributor):
    model, X, y, X_test, y_test = _problem()
    return _fit(attributor, model, X, y), X_test, y_test


def _same(a, b, what: str) -> None:
    _require(np.shape(a) == np.shape(b), f"{what}: shapes {np.shape(a)} and {np.shape(b)} differ.")
    if not np.allclose(a, b, **_TOLERANCE):
        gap = np.abs(np.asarray(a) - np.asarray(b)).max()
        raise AssertionError(f"{what}: scores differ by up to {gap:.3g}.")


def _raises(function: Callable, kinds, words: tuple[str, ...], what: str) -> None:
    try:
        function()
    except kinds as error:
        missing = [word for word in words if word not in str(error)]
        _require(not missing, f"{what}: the error does not say {missing}: {error}")
        return
    raise AssertionError(f"{what}: no error was raised.")


@_quiet
def check_clone_and_params(attributor):
    """The constructor stores its parameters and nothing else; clone copies them."""
    params = attributor.get_params(deep=False)
    _require(set(vars(attributor)) == set(params), "the constructor sets more than parameters.")
    for name, value in params.items():
        _require(getattr(attributor, name) is value, f"parameter {name} was changed on storing.")
    again = clone(attributor).set_params(**params)
    for name, value in again.get_params(deep=False).items():
        simple = isinstance(value, (int, float, str, type(None)))
        _require(not simple or value == params[name], f"set_params lost {name}.")
    _fitted(attributor)
    for name, value in params.items():
        _require(getattr(attributor, name) is value, f"fit changed the parameter {name}.")


@_quiet
def check_repr_computes_nothing(attributor):
    """Text and HTML representations of a fitted attributor run no model."""
    fitted, _, _ = _fitted(attributor)
    with mock.patch.object(nn.Module, "__call__", side_effect=AssertionError("repr ran a model.")):
        for show in (repr, estimator_html_repr):
            text = show(fitted)
            _require(type(fitted).__name__ in text, "repr does not name the attributor.")


@_quiet
def check_shape_and_finite(attributor):
    """Scores are a finite float64 array (n_test, n_train); fit returns self."""
    model, X, y, X_test, y_test = _problem()
    _require(_fit(attributor, model, X, y) is attributor, "fit does not return self.")
    scores = attributor.score(X_test, y_test)
    _require(type(scores) is np.ndarray and scores.dtype == np.float64, "not a float64 ndarray.")
    _require(scores.shape == (len(X_test), len(X)), f"scores have shape {scores.shape}.")
    _require(bool(np.isfinite(scores).all()), "scores are not finite.")
    _require(attributor.score(X_test).shape == scores.shape, "y of test may not be left out.")


@_quiet
def check_serialisation(attributor):
    """Pickle, joblib and deepcopy keep the scores of a fitted attributor bit for bit."""
    fitted, X_test, y_test = _fitted(attributor)
    expected = fitted.score(X_test, y_test)
    buffer = io.BytesIO()
    joblib.dump(fitted, buffer)
    buffer.seek(0)
    copies = {
        "pickle": pickle.loads(pickle.dumps(fitted)),
        "joblib": joblib.load(buffer),
        "deepcopy": copy.deepcopy(fitted),
    }
    for name, other in copies.items():
        same = np.array_equal(other.score(X_test, y_test), expected)
        _require(same, f"scores differ after {name}.")


class _Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Dropout(0.5), nn.Linear(5, 3))

    def forward(self, X):
        return self.layers(X)


def _fitted_net():
    """Tiny skorch net, left in training mode."""
    _, X, y, _, _ = _problem()
    net = NeuralNetClassifier(
        _Net, criterion=nn.CrossEntropyLoss, max_epochs=3, train_split=None, verbose=0
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net.fit(X.astype(np.float32), y)
    net.module_.train()
    return net


@_quiet
def check_model_untouched(attributor):
    """Fit and score leave the user's model, and the random number generators, as they were."""
    model, X, y, X_test, y_test = _problem()
    before = copy.deepcopy(vars(model))
    numpy_state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()
    _fit(attributor, model, X, y).score(X_test, y_test)
    _require(np.array_equal(model.coef_, before["coef_"]), "the model's weights were changed.")
    _require(set(vars(model)) == set(before), "the model's attributes were changed.")
    _require(np.array_equal(np.random.get_state()[1], numpy_state), "numpy's global state moved.")
    _require(torch.equal(torch.get_rng_state(), torch_state), "torch's global state moved.")
    _check_net_untouched(attributor)


def _check_net_untouched(attributor) -> None:
    _, X, y, X_test, y_test = _problem()
    fitted = _fitted_net()
    net, gradients = fitted.module_, [p.grad.clone() for p in fitted.module_.parameters()]
    state = copy.deepcopy(net.state_dict())
    _fit(clone(attributor), fitted, X, y).score(X_test, y_test)
    _require(fitted.module_ is net, "the net's module was replaced.")
    same = all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    _require(same, "the net's weights were changed.")
    _require(all(m.training for m in net.modules()), "the net's training mode was changed.")
    same = all(torch.equal(p.grad, g) for p, g in zip(net.parameters(), gradients, strict=True))
    _require(same, "the net's gradients were changed.")
    hooks = any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    _require(not hooks, "hooks were left on the net.")


@_quiet
def check_snapshot(attributor):
    """Changing the model or the data after fit does not change the scores."""
    model, X, y, X_test, y_test = _problem()
    fitted = _fit(attributor, model, X, y)
    expected = fitted.score(X_test, y_test)
    model.coef_ += 1.0
    _same(fitted.score(X_test, y_test), expected, "after the model was changed")


@_quiet
def check_test_permutation(attributor):
    """Test examples in another order give rows in that order."""
    fitted, X_test, y_test = _fitted(attributor)
    order = np.random.RandomState(1).permutation(len(X_test))
    permuted = fitted.score(X_test[order], y_test[order])
    _same(permuted, fitted.score(X_test, y_test)[order], "test rows permuted")


@_quiet
def check_train_permutation(attributor):
    """Training examples in another order give columns in that order."""
    model, X, y, X_test, y_test = _problem()
    order = np.random.RandomState(2).permutation(len(X))
    expected = _fit(clone(attributor), model, X, y).score(X_test, y_test)[:, order]
    permuted = _fit(attributor, model, X[order], y[order]).score(X_test, y_test)
    _same(permuted, expected, "training rows permuted")


@_quiet
def check_test_subset(attributor):
    """A test example's scores do not depend on the others scored beside it."""
    fitted, X_test, y_test = _fitted(attributor)
    alone = fitted.score(X_test[3:4], y_test[3:4])
    _same(alone, fitted.score(X_test, y_test)[3:4], "one test row alone")


@_quiet
def check_duplicates(attributor):
    """Equal training rows get equal scores, equal test rows equal rows."""
    model, X, y, X_test, y_test = _problem()
    X, y = np.concatenate([X, X[:5]]), np.concatenate([y, y[:5]])
    X_test, y_test = np.concatenate([X_test, X_test[:2]]), np.concatenate([y_test, y_test[:2]])
    scores = _fit(attributor, model, X, y).score(X_test, y_test)
    _same(scores[:, -5:], scores[:, :5], "duplicated training rows")
    _same(scores[-2:], scores[:2], "duplicated test rows")


@_quiet
def check_batch_size_independence(attributor):
    """``batch_size`` bounds memory and changes nothing else."""
    if "batch_size" not in attributor.get_params():
        return
    whole, X_test, y_test = _fitted(clone(attributor).set_params(batch_size=1000))
    parts, _, _ = _fitted(attributor.set_params(batch_size=7))
    _same(parts.score(X_test, y_test), whole.score(X_test, y_test), "batch_size 7 and 1000")


class _Pairs(torch.utils.data.Dataset):
    def __init__(self, X, y):
        self.X, self.y = torch.as_tensor(X), torch.as_tensor(y)

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        return self.X[i], self.y[i]


@_quiet
def check_input_kinds(attributor):
    """Arrays, lists, tensors, Datasets and shuffling DataLoaders give equal scores."""
    fitted, X_test, y_test = _fitted(attributor)
    expected = fitted.score(X_test, y_test)
    pairs = _Pairs(X_test, y_test)
    kinds = {
        "list": (X_test.tolist(), y_test.tolist()),
        "Fortran order": (np.asfortranarray(X_test), y_test),
        "Tensor": (torch.as_tensor(X_test), torch.as_tensor(y_test)),
        "Dataset": (pairs, None),
        "DataLoader": (torch.utils.data.DataLoader(pairs, batch_size=5, shuffle=True), None),
    }
    for name, (X, y) in kinds.items():
        _same(fitted.score(X, y), expected, f"test data as {name}")


@_quiet
def check_transform_and_names(attributor):
    """``transform`` is ``score``, its columns have names, and there is no ``fit_transform``."""
    fitted, X_test, y_test = _fitted(attributor)
    _same(fitted.transform(X_test, y_test), fitted.score(X_test, y_test), "transform")
    names = fitted.get_feature_names_out()
    _require(len(names) == fitted.n_train_ and len(set(names)) == len(names), "names of columns.")
    _require(not hasattr(fitted, "fit_transform"), "fit_transform exists.")


@_quiet
def check_top_k(attributor):
    """``top_k`` agrees with sorting the scores, for proponents and opponents."""
    fitted, X_test, y_test = _fitted(attributor)
    scores = fitted.score(X_test, y_test)
    for opponents, sign in ((False, -1), (True, 1)):
        rows, values = fitted.top_k(X_test, y_test, k=4, opponents=opponents)
        _same(values, sign * np.sort(sign * scores, axis=1)[:, :4], "top_k")
        _same(np.take_along_axis(scores, rows, axis=1), values, "top_k's indices")


@_quiet
def check_pipeline_misuse(attributor):
    """An attributor as a step of a Pipeline is refused, not run with X as the model."""
    _, X, y, _, _ = _problem()
    pipeline = make_pipeline(StandardScaler(), attributor)
    _raises(lambda: pipeline.fit(X, y), (TypeError, ValueError), ("model",), "pipeline misuse")


@_quiet
def check_bad_values(attributor):
    """NaN and rows of the wrong length are refused with a message, never scored."""
    model, X, y, X_test, y_test = _problem()
    broken = X.copy()
    broken[3, 1] = np.nan
    _raises(lambda: _fit(clone(attributor), model, broken, y), ValueError, ("NaN",), "NaN in X")
    _raises(lambda: _fit(clone(attributor), model, X, y[:-1]), ValueError, ("y",), "short y")
    fitted = _fit(attributor, model, X, y)
    broken = X_test.copy()
    broken[0, 0] = np.inf
    _raises(lambda: fitted.score(broken, y_test), ValueError, ("X",), "infinity in test X")
    _raises(lambda: fitted.score(X_test[:, :2], y_test), ValueError, ("feature",), "two features")


@_quiet
def check_threads(attributor):
    """Scoring from several threads gives what scoring serially gives."""
    fitted, X_test, y_test = _fitted(attributor)
    expected = fitted.score(X_test, y_test)
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(fitted.score, X_test, y_test) for _ in range(8)]
        for future in futures:
            _same(future.result(), expected, "in a thread")


@_quiet
def check_unfitted(attributor):
    """Scoring before fit raises NotFittedError."""
    from sklearn.exceptions import NotFittedError

    _, _, _, X_test, y_test = _problem()
    _raises(lambda: attributor.score(X_test, y_test), NotFittedError, (), "unfitted")
