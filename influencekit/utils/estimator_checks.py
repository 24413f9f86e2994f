"""Checks that every attributor should pass, for those of this package and your own.

Use them from pytest::

    from influencekit.utils.estimator_checks import parametrize_with_checks

    @parametrize_with_checks([MyAttributor()])
    def test_attributor(attributor, check):
        check(attributor)
"""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from unittest import mock

import joblib
import numpy as np
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_html_repr
from torch import nn

from influencekit.utils._checks_common import (
    fit,
    fitted_on_problem,
    problem,
    quietly,
    raises,
    require,
)
from influencekit.utils._checks_model import check_model_untouched, check_snapshot
from influencekit.utils._checks_scores import (
    check_batch_size_independence,
    check_duplicates,
    check_explained_output,
    check_gradients_switched_off,
    check_input_kinds,
    check_self_influence,
    check_shape_and_finite,
    check_test_permutation,
    check_test_subset,
    check_threads,
    check_top_k,
    check_train_permutation,
    check_transform_and_names,
)

__all__ = ["check_attributor", "parametrize_with_checks"]


def parametrize_with_checks(
    attributors: Any, *, expected_failed_checks: Callable | None = None
) -> Any:
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
        Over ``attributor`` and ``check``; ``check(attributor)`` raises AssertionError on failure.
    """
    import pytest

    cases = []
    for attributor in attributors:
        expected = expected_failed_checks(attributor) if expected_failed_checks else {}
        for check in yield_checks():
            reason = expected.get(check.__name__)
            marks = [pytest.mark.xfail(reason=reason, strict=False)] if reason else []
            name = f"{type(attributor).__name__}-{check.__name__}"
            cases.append(pytest.param(attributor, check, id=name, marks=marks))
    return pytest.mark.parametrize(("attributor", "check"), cases)


def check_attributor(attributor: Any) -> None:
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
    """Every check, in order.

    Yields
    ------
    callable
        A function of an unfitted attributor that raises an error if the attributor fails.
    """
    yield check_clone_and_params
    yield check_repr_computes_nothing
    yield check_shape_and_finite
    yield check_self_influence
    yield check_explained_output
    yield check_serialization
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
    yield check_gradients_switched_off
    yield check_unfitted


@quietly
def check_clone_and_params(attributor: Any) -> None:
    """The constructor stores its parameters and nothing else; clone copies them."""
    params = attributor.get_params(deep=False)
    require(set(vars(attributor)) == set(params), "the constructor sets more than parameters.")
    _check_constructor(type(attributor), list(params))
    again = clone(attributor).set_params(**params)
    for name, value in again.get_params(deep=False).items():
        simple = isinstance(value, (int, float, str, type(None)))
        require(not simple or value == params[name], f"set_params lost {name}.")
    fitted_on_problem(attributor)
    for name, value in params.items():
        require(getattr(attributor, name) is value, f"fit changed the parameter {name}.")


def _check_constructor(kind: type, names: list[str]) -> None:
    """Parameters are stored unchanged; fit converts and checks them."""
    marks = {name: mock.sentinel.__getattr__(name) for name in names}
    try:
        made = kind(**marks)
    except Exception as error:
        raise AssertionError(f"the constructor checks or converts parameters: {error}") from error
    for name, mark in marks.items():
        require(getattr(made, name) is mark, f"parameter {name} was changed on storing.")


@quietly
def check_repr_computes_nothing(attributor: Any) -> None:
    """Text and HTML representations of a fitted attributor neither run a model nor score."""
    fitted, _, _ = fitted_on_problem(attributor)
    computing = [(nn.Module, "__call__")]
    computing += [(type(fitted), m) for m in ("score", "_score") if hasattr(fitted, m)]
    with ExitStack() as patches:
        for owner, method in computing:
            error = AssertionError(f"repr ran {owner.__name__}.{method}.")
            patches.enter_context(mock.patch.object(owner, method, side_effect=error))
        for show in (repr, estimator_html_repr):
            text = show(fitted)
            require(type(fitted).__name__ in text, "repr does not name the attributor.")


@quietly
def check_serialization(attributor: Any) -> None:
    """Pickle, joblib and deepcopy keep the scores of a fitted attributor bit for bit."""
    fitted, X_test, y_test = fitted_on_problem(attributor)
    expected = fitted.score(X_test, y_test)
    ways = {
        "pickle": lambda: pickle.loads(pickle.dumps(fitted)),
        "joblib": lambda: _through_joblib(fitted),
        "deepcopy": lambda: copy.deepcopy(fitted),
    }
    for name, way in ways.items():
        try:
            other = way()
        except Exception as error:
            raise AssertionError(f"{name} failed: {type(error).__name__}: {error}") from error
        same = np.array_equal(other.score(X_test, y_test), expected)
        require(same, f"scores differ after {name}.")


def _through_joblib(fitted: Any) -> Any:
    buffer = io.BytesIO()
    joblib.dump(fitted, buffer)
    buffer.seek(0)
    return joblib.load(buffer)


@quietly
def check_pipeline_misuse(attributor: Any) -> None:
    """An attributor as a step of a Pipeline is refused, not run with X as the model."""
    _, X, y, _, _ = problem()
    pipeline = make_pipeline(StandardScaler(), attributor)
    raises(lambda: pipeline.fit(X, y), (TypeError, ValueError), ("model",), "pipeline misuse")


@quietly
def check_bad_values(attributor: Any) -> None:
    """NaN and rows of the wrong length are refused with a message, never scored."""
    model, X, y, X_test, y_test = problem(attributor)
    broken = X.copy()
    broken[3, 1] = np.nan
    raises(lambda: fit(clone(attributor), model, broken, y), ValueError, ("NaN",), "NaN in X")
    raises(lambda: fit(clone(attributor), model, X, y[:-1]), ValueError, ("y",), "short y")
    fitted = fit(attributor, model, X, y)
    broken = X_test.copy()
    broken[0, 0] = np.inf
    raises(lambda: fitted.score(broken, y_test), ValueError, ("X",), "infinity in test X")
    raises(lambda: fitted.score(X_test[:, :2], y_test), ValueError, ("feature",), "two features")


@quietly
def check_unfitted(attributor: Any) -> None:
    """Scoring before fit raises NotFittedError."""
    _, _, _, X_test, y_test = problem()
    raises(lambda: attributor.score(X_test, y_test), NotFittedError, (), "unfitted")
