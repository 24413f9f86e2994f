"""Checks of what scores depend on, and what they do not depend on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from influencekit.utils._checks_common import (
    fit,
    fitted_on_problem,
    problem,
    quietly,
    reads_trees,
    require,
    same,
)

__all__ = [
    "check_batch_size_independence",
    "check_duplicates",
    "check_explained_output",
    "check_input_kinds",
    "check_self_influence",
    "check_shape_and_finite",
    "check_test_permutation",
    "check_test_subset",
    "check_threads",
    "check_top_k",
    "check_train_permutation",
    "check_transform_and_names",
]


@quietly
def check_shape_and_finite(attributor: Any) -> None:
    """Scores are a finite float64 array (n_test, n_train); fit returns self."""
    model, X, y, X_test, y_test = problem(attributor)
    require(fit(attributor, model, X, y) is attributor, "fit does not return self.")
    scores = attributor.score(X_test, y_test)
    require(type(scores) is np.ndarray and scores.dtype == np.float64, "not a float64 ndarray.")
    require(scores.shape == (len(X_test), len(X)), f"scores have shape {scores.shape}.")
    require(bool(np.isfinite(scores).all()), "scores are not finite.")
    try:
        shape = attributor.score(X_test).shape
    except Exception as error:
        raise AssertionError(f"test examples without y: {error}") from error
    require(shape == scores.shape, f"without y of test, scores have shape {shape}.")


@quietly
def check_self_influence(attributor: Any) -> None:
    """``self_influence``, if defined, is the score of each row on its own loss."""
    for name in attributor.get_params():
        if name.split("__")[-1] == "output":
            attributor.set_params(**{name: "neg_loss"})
    model, X, y, _, _ = problem(attributor)
    fitted = fit(attributor, model, X, y)
    try:
        own = fitted.self_influence()
    except NotImplementedError:
        return
    same(own, np.diagonal(fitted.score(X, y)), "self_influence and the diagonal of score(X, y)")


@quietly
def check_explained_output(attributor: Any) -> None:
    """``Fitted.explaining`` explains the given output, for methods with an output."""
    if "output" not in attributor.get_params(deep=False):
        return
    fitted, X_test, y_test = fitted_on_problem(attributor)
    fitted.fitted_ = [one.explaining(_nothing) for one in fitted.fitted_]
    require(
        not fitted.score(X_test, y_test).any(),
        "an output that is always 0 has scores other than 0. Keep the output in the attribute "
        "'output' of the Fitted, and read it there in scores.",
    )


def _nothing(outputs: Tensor, _targets: Tensor) -> Tensor:
    return (outputs * 0).flatten(1).sum(1)


@quietly
def check_test_permutation(attributor: Any) -> None:
    """Test examples in another order give rows in that order."""
    fitted, X_test, y_test = fitted_on_problem(attributor)
    order = np.random.RandomState(1).permutation(len(X_test))
    permuted = fitted.score(X_test[order], y_test[order])
    same(permuted, fitted.score(X_test, y_test)[order], "test rows permuted")


@quietly
def check_train_permutation(attributor: Any) -> None:
    """Training examples in another order give columns in that order."""
    model, X, y, X_test, y_test = problem(attributor)
    order = np.random.RandomState(2).permutation(len(X))
    expected = fit(clone(attributor), model, X, y).score(X_test, y_test)[:, order]
    permuted = fit(attributor, model, X[order], y[order]).score(X_test, y_test)
    same(permuted, expected, "training rows permuted")


@quietly
def check_test_subset(attributor: Any) -> None:
    """The scores of a test example do not depend on the others in the same call."""
    fitted, X_test, y_test = fitted_on_problem(attributor)
    alone = fitted.score(X_test[3:4], y_test[3:4])
    same(alone, fitted.score(X_test, y_test)[3:4], "one test row alone")


@quietly
def check_duplicates(attributor: Any) -> None:
    """Equal training rows get equal scores, equal test rows equal rows."""
    model, X, y, X_test, y_test = problem(attributor)
    X, y = np.concatenate([X, X[:5]]), np.concatenate([y, y[:5]])
    X_test, y_test = np.concatenate([X_test, X_test[:2]]), np.concatenate([y_test, y_test[:2]])
    model = model.fit(X, y) if reads_trees(attributor) else model  # leaf values depend on rows
    scores = fit(attributor, model, X, y).score(X_test, y_test)
    same(scores[:, -5:], scores[:, :5], "duplicated training rows")
    same(scores[-2:], scores[:2], "duplicated test rows")


@quietly
def check_batch_size_independence(attributor: Any) -> None:
    """``batch_size`` affects memory but not results."""
    if "batch_size" not in attributor.get_params():
        return
    whole, X_test, y_test = fitted_on_problem(clone(attributor).set_params(batch_size=1000))
    parts, _, _ = fitted_on_problem(attributor.set_params(batch_size=7))
    same(parts.score(X_test, y_test), whole.score(X_test, y_test), "batch_size 7 and 1000")


class _Pairs(Dataset):
    def __init__(self, X: Any, y: Any):
        self.X, self.y = torch.as_tensor(X), torch.as_tensor(y)

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, i: int) -> tuple:
        return self.X[i], self.y[i]


@quietly
def check_input_kinds(attributor: Any) -> None:
    """Arrays, lists, tensors, Datasets and shuffling DataLoaders give equal scores."""
    fitted, X_test, y_test = fitted_on_problem(attributor)
    expected = fitted.score(X_test, y_test)
    pairs = _Pairs(X_test, y_test)
    order = torch.Generator().manual_seed(0)
    loader = DataLoader(pairs, batch_size=5, shuffle=True, generator=order)
    kinds = {
        "list": (X_test.tolist(), y_test.tolist()),
        "Fortran order": (np.asfortranarray(X_test), y_test),
        "Tensor": (torch.as_tensor(X_test), torch.as_tensor(y_test)),
        "Dataset": (pairs, None),
        "DataLoader": (loader, None),
    }
    for name, (X, y) in kinds.items():
        same(fitted.score(X, y), expected, f"test data as {name}")


@quietly
def check_transform_and_names(attributor: Any) -> None:
    """``transform`` is ``score``, its columns have names, and there is no ``fit_transform``."""
    fitted, X_test, y_test = fitted_on_problem(attributor)
    same(fitted.transform(X_test, y_test), fitted.score(X_test, y_test), "transform")
    names = fitted.get_feature_names_out()
    require(len(names) == fitted.n_train_ and len(set(names)) == len(names), "names of columns.")
    require(not hasattr(fitted, "fit_transform"), "fit_transform exists.")


@quietly
def check_top_k(attributor: Any) -> None:
    """``top_k`` agrees with sorting the scores, for proponents and opponents."""
    fitted, X_test, y_test = fitted_on_problem(attributor)
    scores = fitted.score(X_test, y_test)
    for opponents, sign in ((False, -1), (True, 1)):
        rows, values = fitted.top_k(X_test, y_test, k=4, opponents=opponents)
        same(values, sign * np.sort(sign * scores, axis=1)[:, :4], "top_k")
        same(np.take_along_axis(scores, rows, axis=1), values, "top_k's indices")


@quietly
def check_threads(attributor: Any) -> None:
    """Fitting and scoring in eight threads gives exactly the same as in one thread."""
    fitted, X_test, y_test = fitted_on_problem(attributor)
    parts = [slice(start, start + 5) for start in range(8)]
    expected = [fitted.score(X_test[part], y_test[part]) for part in parts]

    def fit_and_score(part: Any) -> np.ndarray:
        again, _, _ = fitted_on_problem(clone(attributor))
        return again.score(X_test[part], y_test[part])

    def score(part: Any) -> np.ndarray:
        return fitted.score(X_test[part], y_test[part])

    with ThreadPoolExecutor(8) as pool:
        for way, what in ((score, "scored"), (fit_and_score, "fitted and scored")):
            for found, scores in zip(pool.map(way, parts), expected, strict=True):
                require(np.array_equal(found, scores), f"scores differ when {what} in threads.")


@quietly
def check_gradients_switched_off(attributor: Any) -> None:
    """Fitting and scoring under no_grad and inference_mode gives the same scores."""
    fitted, X_test, y_test = fitted_on_problem(clone(attributor))
    expected = fitted.score(X_test, y_test)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            same(fitted.score(X_test, y_test), expected, f"score under {mode.__name__}")
            again, _, _ = fitted_on_problem(clone(attributor))
            same(again.score(X_test, y_test), expected, f"fit under {mode.__name__}")
