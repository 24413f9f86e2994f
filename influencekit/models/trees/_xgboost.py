"""XGBoost's scikit-learn estimators."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
from scipy.special import logit
from sklearn.utils.validation import check_is_fitted

from influencekit.exceptions import UnsupportedModelError
from influencekit.models.trees._ensemble import BoostedTrees
from influencekit.models.trees._forests import NodeLeaves, positions_of_leaves

__all__ = ["read_xgboost"]

_LOSSES = {
    "reg:squarederror": "squared",
    "reg:linear": "squared",
    "binary:logistic": "logistic",
    "multi:softprob": "softmax",
    "multi:softmax": "softmax",
}
_RULES = {"squared": "mean", "logistic": "log_odds", "softmax": "centered_log_share"}


def read_xgboost(model: Any) -> BoostedTrees:
    """Trees of a fitted XGBClassifier or XGBRegressor, early stopping respected.

    Parameters
    ----------
    model : XGBModel

    Returns
    -------
    BoostedTrees
    """
    check_is_fitted(model)
    model = copy.copy(model)
    booster = model.get_booster()
    config = json.loads(booster.save_config())["learner"]
    learner = json.loads(booster.save_raw("json").decode())["learner"]
    grown = _grown(learner, config)
    stop = _stop(model, grown)
    trees, outputs = grown["trees"][:stop], np.asarray(grown["tree_info"][:stop])
    leaf = [np.asarray(tree["left_children"]) == -1 for tree in trees]
    values = [
        np.asarray(tree["split_conditions"], dtype=np.float64)[ends]
        for tree, ends in zip(trees, leaf, strict=True)
    ]
    n_outputs = int(outputs.max()) + 1
    loss = _LOSSES.get(config["learner_train_param"]["objective"], "other")
    grow = config["gradient_booster"]["tree_train_param"]
    base, rule = _base(config["learner_model_param"], loss, n_outputs)
    return BoostedTrees(
        leaves=_Leaves(model, [positions_of_leaves(tree["left_children"]) for tree in trees]),
        sizes=np.array([len(v) for v in values]),
        values=np.concatenate(values),
        n_outputs=n_outputs,
        loss=loss,
        outputs=outputs,
        stages=np.arange(len(trees)) // n_outputs,
        rate=float(grow["eta"]),
        base=base,
        base_rule=rule,
        l2=float(grow["lambda"]),
        l1=float(grow["alpha"]),
        curvature=2.0 if loss == "softmax" else 1.0,
        sampled=float(grow["subsample"]),
        tolerance=1e-3,
        refusal=_refusal(config, grow, loss),
    )


class _Leaves(NodeLeaves):
    """XGBoost returns a single column without its axis, and also the trees after the best one."""

    def __call__(self, X: Any) -> np.ndarray:
        if hasattr(X, "tocsr"):
            X = X.tocsr()
        return super().__call__(X)


def _grown(learner: dict, config: dict) -> dict:
    """The trees of a booster of ordinary trees."""
    booster = config["learner_train_param"]["booster"]
    if booster != "gbtree":
        raise UnsupportedModelError(
            f"model: got XGBoost with booster={booster!r}; accepted is booster='gbtree'. The trees "
            "of 'dart' are scaled after they were fitted, and 'gblinear' has no trees."
        )
    grown = learner["gradient_booster"]["model"]
    if int(grown["gbtree_model_param"]["num_parallel_tree"]) > 1:
        raise UnsupportedModelError(
            "model: got XGBoost with num_parallel_tree above 1, a boosted forest; accepted is 1. "
            "For a forest, fit RandomForestClassifier or RandomForestRegressor."
        )
    if any(int(tree["tree_param"].get("size_leaf_vector", 1)) > 1 for tree in grown["trees"]):
        raise UnsupportedModelError(
            "model: got XGBoost with multi_strategy='multi_output_tree'; accepted is "
            "'one_output_per_tree'."
        )
    return grown


def _stop(model: Any, grown: dict) -> int:
    """Number of trees used for prediction."""
    try:
        best = model.best_iteration
    except AttributeError:
        return len(grown["trees"])
    return int(grown["iteration_indptr"][best + 1])


def _base(found: dict, loss: str, n_outputs: int) -> tuple[np.ndarray, str]:
    """Score before the first tree, and its rule."""
    said = np.atleast_1d(np.asarray(json.loads(found["base_score"]), dtype=np.float64))
    base = np.broadcast_to(logit(said) if loss == "logistic" else said, (n_outputs,)).copy()
    estimated = found.get("boost_from_average", "1") == "1"
    return base, _RULES.get(loss, "fixed") if estimated else "fixed"


def _refusal(config: dict, grow: dict, loss: str) -> str | None:
    """Why the leaf values cannot be computed again."""
    if loss == "other":
        return f"its objective is {config['learner_train_param']['objective']!r}"
    if float(grow["max_delta_step"]) > 0:
        return "max_delta_step clips the leaf values"
    return None
