"""What is said of a model that no Task can be made of, and what works for it."""

from __future__ import annotations

from typing import Any

from influencekit.exceptions import UnsupportedModelError
from influencekit.models._has_trees import has_trees

__all__ = ["no_gradients"]

_ONLY_RETRAINS = (
    "What trains again needs no gradients and takes it too: retrain_on_subsets, removal_curve, "
    "leave_group_out, group_counterfactual and NoisyLabelDetector."
)


def no_gradients(model: Any) -> UnsupportedModelError:
    """The refusal of a model whose kind is not known, or has no gradients.

    Parameters
    ----------
    model : object

    Returns
    -------
    UnsupportedModelError
    """
    name = type(model).__name__
    if has_trees(model):
        return UnsupportedModelError(
            f"model: got {name}, whose trees have no gradients. Use "
            "influencekit.TreeInfluence, which takes it as it is: "
            f"TreeInfluence().fit(model, X_train, y_train). {_ONLY_RETRAINS}"
        )
    predicts = hasattr(model, "fit") and hasattr(model, "predict")
    retrained = f"{_ONLY_RETRAINS} " if predicts else ""
    return UnsupportedModelError(
        f"model: got {name}, which is not a model that influencekit knows the gradients of. "
        f"{retrained}Accepted here: a fitted torch.nn.Module, skorch net, scikit-learn Pipeline, "
        "search, linear or generalized linear model without an L1 penalty, KernelRidge, "
        "MLPClassifier, MLPRegressor, or a model that holds one of these. Register your own with "
        "@as_task.register."
    )
