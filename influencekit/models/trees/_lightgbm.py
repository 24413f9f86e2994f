"""LightGBM's scikit-learn estimators."""

from __future__ import annotations

import copy
import re
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from influencekit.exceptions import UnsupportedModelError
from influencekit.models.trees._ensemble import BoostedTrees

__all__ = ["read_lightgbm"]

_LOSSES = {"regression": "squared", "binary": "logistic", "multiclass": "softmax"}
_RULES = {"squared": "mean", "logistic": "log_odds", "softmax": "log_share"}
_SETTING = re.compile(r"^\[(\w+): ?(.*)\]$", re.MULTILINE)


def read_lightgbm(model: Any) -> BoostedTrees:
    """Trees of a fitted LGBMClassifier or LGBMRegressor, early stopping respected.

    LightGBM adds its starting score to the leaves of the first trees. It is subtracted again once
    the training data are known, so ``base`` is 0 here and ``base_rule`` says how it was estimated.

    Parameters
    ----------
    model : LGBMModel

    Returns
    -------
    BoostedTrees
    """
    check_is_fitted(model)
    model = copy.copy(model)
    booster = model.booster_
    settings = dict(_SETTING.findall(booster.model_to_string()))
    dump = booster.dump_model(num_iteration=booster.best_iteration)
    _check_kind(settings)
    values = [_leaf_values(tree) for tree in dump["tree_info"]]
    n_outputs = dump["num_tree_per_iteration"]
    loss = _LOSSES.get(str(dump.get("objective", "")).split(" ")[0], "other")
    average = settings["boost_from_average"] == "1"
    return BoostedTrees(
        leaves=_Leaves(model, booster.best_iteration),
        sizes=np.array([len(v) for v in values]),
        values=np.concatenate(values),
        n_outputs=n_outputs,
        loss=loss,
        outputs=np.arange(len(values)) % n_outputs,
        stages=np.arange(len(values)) // n_outputs,
        rate=float(settings["learning_rate"]),
        base=np.zeros(n_outputs),
        base_rule=_RULES.get(loss, "fixed") if average else "fixed",
        base_in_trees=average,
        stumps_move=not average,
        l2=float(settings["lambda_l2"]),
        l1=float(settings["lambda_l1"]),
        curvature=n_outputs / (n_outputs - 1) if loss == "softmax" else 1.0,
        sampled=float(settings["bagging_fraction"]) if int(settings["bagging_freq"]) else 1.0,
        tolerance=1e-3,
        refusal=_refusal(settings, loss, dump),
    )


class _Leaves:
    """Leaf positions (n, n_trees) as the model's own prediction finds them."""

    def __init__(self, model: Any, iterations: int):
        self.model, self.iterations = model, iterations

    def __call__(self, X: Any) -> np.ndarray:
        found = self.model.predict(X, pred_leaf=True, num_iteration=self.iterations)
        found = np.asarray(found)
        return found.reshape(len(found), -1).astype(np.int32)


def _leaf_values(tree: dict) -> np.ndarray:
    """Values of a tree's leaves by leaf number."""
    values, left = np.zeros(tree["num_leaves"]), [tree["tree_structure"]]
    while left:
        node = left.pop()
        if "leaf_value" in node:
            values[node.get("leaf_index", 0)] = node["leaf_value"]
        else:
            left += [node["left_child"], node["right_child"]]
    return values


def _check_kind(settings: dict) -> None:
    """Refuse trees that are not simply summed, or whose leaf values are not numbers."""
    if settings["boosting"] != "gbdt":
        raise UnsupportedModelError(
            f"model: got LightGBM with boosting_type={settings['boosting']!r}; accepted is 'gbdt'. "
            "The trees of 'dart' are scaled after they were fitted; for a forest, fit "
            "scikit-learn's."
        )
    if settings["linear_tree"] == "1":
        raise UnsupportedModelError(
            "model: got LightGBM with linear_tree=True, whose leaves are linear models; accepted "
            "is linear_tree=False."
        )


def _refusal(settings: dict, loss: str, dump: dict) -> str | None:
    """Why the leaf values cannot be computed again."""
    if loss == "other":
        return f"its objective is {dump.get('objective')!r}"
    if settings.get("data_sample_strategy") == "goss":
        return "data_sample_strategy='goss' weights the rows that it samples"
    for name, plain in (("path_smooth", 0.0), ("max_delta_step", 0.0), ("sigmoid", 1.0)):
        if float(settings[name]) != plain:
            return f"{name} is {settings[name]}"
    if settings["is_unbalance"] == "1":
        return "is_unbalance=True weights classes; use class_weight='balanced' for the same effect"
    if settings["reg_sqrt"] == "1" or settings["use_quantized_grad"] == "1":
        return "reg_sqrt or use_quantized_grad changes the derivatives"
    return None
