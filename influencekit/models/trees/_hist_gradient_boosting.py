"""scikit-learn's HistGradientBoostingClassifier and HistGradientBoostingRegressor."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from influencekit.models.trees._ensemble import BoostedTrees, other_loss
from influencekit.utils.validation import HistLeaves, hist_base, hist_trees

__all__ = ["read_hist_gradient_boosting"]

_LOSSES = {"squared_error": "squared", "log_loss": "logistic"}
_RULES = {"squared": "mean", "logistic": "log_odds", "softmax": "centered_log_share"}


def read_hist_gradient_boosting(model: Any) -> BoostedTrees:
    """Trees of a fitted HistGradientBoosting model.

    Parameters
    ----------
    model : HistGradientBoostingClassifier or HistGradientBoostingRegressor

    Returns
    -------
    BoostedTrees
    """
    loss = _LOSSES.get(model.loss, "other") if isinstance(model.loss, str) else "other"
    if loss == "other":
        raise other_loss(model, f"its loss is {model.loss!r}")
    check_is_fitted(model)
    trees = hist_trees(model)  # (n_stages, n_outputs) of nodes
    n_outputs = model.n_trees_per_iteration_
    loss = "softmax" if loss == "logistic" and n_outputs > 1 else loss
    nodes = [tree for stage in trees for tree in stage]
    values = [tree["value"][tree["is_leaf"] == 1] for tree in nodes]
    return BoostedTrees(
        leaves=HistLeaves(model),
        sizes=np.array([len(v) for v in values]),
        values=np.concatenate(values),
        n_outputs=n_outputs,
        loss=loss,
        outputs=np.tile(np.arange(n_outputs), len(trees)),
        stages=np.repeat(np.arange(len(trees)), n_outputs),
        rate=1.0 if model.learning_rate is None else model.learning_rate,
        base=hist_base(model),
        base_rule=_RULES[loss],
        l2=model.l2_regularization,
        stumps_move=False,  # a tree without a split has value 0
        refusal=_refusal(model),
    )


def _refusal(model: Any) -> str | None:
    """Why the leaf values cannot be computed again."""
    held_out = model.do_early_stopping_ and model.validation_fraction is not None
    if held_out and getattr(model, "class_weight", None) == "balanced":
        return (
            "class_weight='balanced' together with early stopping also counts the classes of "
            "held-out rows; give class_weight as a dict"
        )
    return None
