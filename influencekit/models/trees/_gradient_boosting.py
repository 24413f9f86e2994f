"""scikit-learn's GradientBoostingClassifier and GradientBoostingRegressor."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.utils.validation import check_is_fitted, validate_data

from influencekit.exceptions import UnsupportedModelError
from influencekit.models.trees._ensemble import BoostedTrees, other_loss
from influencekit.models.trees._forests import NodeLeaves, positions_of_leaves
from influencekit.models.trees._sampling import StageRows

__all__ = ["read_gradient_boosting"]


class _FiniteLeaves(NodeLeaves):
    """``apply`` accepts missing values and reordered columns, which ``predict`` refuses."""

    def __call__(self, X: Any) -> np.ndarray:
        form = {"accept_sparse": "csr", "dtype": np.float32, "order": "C"}
        return super().__call__(validate_data(self.model, X, reset=False, **form))


def read_gradient_boosting(model: Any) -> BoostedTrees:
    """Trees of a fitted GradientBoosting model.

    Parameters
    ----------
    model : GradientBoostingClassifier or GradientBoostingRegressor

    Returns
    -------
    BoostedTrees
    """
    _check_settings(model)
    check_is_fitted(model)
    model = copy.copy(model)
    model.estimators_ = model.estimators_.copy()
    trees = [tree.tree_ for tree in model.estimators_.ravel()]
    n_stages, n_outputs = model.estimators_.shape
    loss = _loss(model, n_outputs)
    values = [tree.value[tree.children_left == -1, 0, 0] for tree in trees]
    base, rule = _base(model, n_outputs)
    factor = (n_outputs - 1) / n_outputs if loss == "softmax" else 1.0
    return BoostedTrees(
        leaves=_FiniteLeaves(model, [positions_of_leaves(tree.children_left) for tree in trees]),
        sizes=np.array([len(v) for v in values]),
        values=model.learning_rate * np.concatenate(values),
        n_outputs=n_outputs,
        loss=loss,
        outputs=np.tile(np.arange(n_outputs), n_stages),
        stages=np.repeat(np.arange(n_stages), n_outputs),
        rate=model.learning_rate * factor,
        base=base,
        base_rule=rule,
        stage_rows=_stage_rows(model),
        tolerance=1e-8,
        refusal=_refusal(model),
    )


def _check_settings(model: Any) -> None:
    """Refuse, fitted or not, a loss that is not known and a start that differs between rows."""
    if model.loss not in ("log_loss", "squared_error"):
        raise other_loss(model, f"its loss is {model.loss!r}")
    if model.init is not None and not isinstance(model.init, str):
        _check_constant(model.init, type(model).__name__)


def _loss(model: Any, n_outputs: int) -> str:
    if model.loss == "log_loss":
        return "logistic" if n_outputs == 1 else "softmax"
    return "squared"


def _base(model: Any, n_outputs: int) -> tuple[np.ndarray, str]:
    """Score before the first tree, and its rule."""
    if isinstance(model.init_, str):
        return np.zeros(n_outputs), "fixed"
    row = np.zeros((1, model.n_features_in_))
    start = model._raw_predict_init(row)[0]  # noqa: SLF001  versions clip the shares differently
    if not hasattr(model, "classes_"):
        return start, "mean"
    return start, "log_odds" if n_outputs == 1 else "centered_log_share"


def _check_constant(first: Any, name: str) -> None:
    """Refuse boosting with a different start for each row, which the leaves do not contain."""
    dummy = isinstance(first, (DummyClassifier, DummyRegressor))
    if not dummy or first.strategy == "stratified":
        raise UnsupportedModelError(
            f"model: got {name} with init={first!r}, a model that may give each row a different "
            f"starting score; accepted are init=None, 'zero', and a DummyClassifier or "
            f"DummyRegressor that predicts the same for every row. Fit the trees without init, or "
            f"on the residuals of that model."
        )


def _stage_rows(model: Any) -> StageRows | None:
    if model.subsample >= 1 or not isinstance(model.random_state, (int, np.integer)):
        return None
    return StageRows(int(model.random_state), model.subsample, *model.estimators_.shape)


def _refusal(model: Any) -> str | None:
    """Why the leaf values cannot be computed again."""
    if model.init is not None and not isinstance(model.init, str):
        return f"init={model.init!r} is a custom start"
    if model.subsample < 1 and not isinstance(model.random_state, (int, np.integer)):
        return "subsample is below 1 and random_state is not an integer: its draws are unknown"
    if model.subsample < 1 and model.n_iter_no_change is not None:
        return "n_iter_no_change together with subsample below 1 draws from reordered rows"
    if model.subsample < 1 and model.warm_start:
        return "warm_start together with subsample below 1 hides which draws belong to which stage"
    return None
