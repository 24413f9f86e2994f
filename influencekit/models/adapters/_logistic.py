"""LogisticRegression as a Task."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from influencekit.exceptions import UnsupportedModelError
from influencekit.models._module import linear_module
from influencekit.models._task import Task, as_task, refuse_loss
from influencekit.models.losses._base import OutputLoss
from influencekit.models.losses._binary import BinaryCrossEntropy
from influencekit.models.losses._cross_entropy import CrossEntropy

__all__ = ["logistic_task"]

ClassWeight = Tensor | Literal["balanced"] | None


@as_task.register(LogisticRegression)
def logistic_task(model: LogisticRegression, loss: Any = None) -> Task:
    """Task of a fitted LogisticRegression or LogisticRegressionCV.

    The objective is ``Σ_i w_i loss_i + ½ |coef|² / C`` with the intercept free; liblinear
    penalises ``(intercept / intercept_scaling)²`` too.  Class weights are carried.

    Parameters
    ----------
    model : LogisticRegression or LogisticRegressionCV
        With an L2 penalty or none.
    loss : None

    Returns
    -------
    Task
        With a penalty of kind "sum".

    Raises
    ------
    UnsupportedModelError
        For an L1 part in the penalty, and for the few combinations of one-versus-rest whose
        weights cannot be recovered.
    """
    refuse_loss(model, loss)
    check_is_fitted(model)
    strength = _strength(model)
    penalty = {"linear.weight": strength}
    if model.solver == "liblinear" and model.fit_intercept:
        penalty["linear.bias"] = strength.reshape(-1) / float(model.intercept_scaling) ** 2
    output_loss, class_weight = _loss(model)
    return Task(
        module=linear_module(model.coef_, model.intercept_, model.fit_intercept),
        loss=output_loss,
        classes=model.classes_,
        penalty=penalty,
        penalty_kind="sum",
        class_weight=class_weight,
        estimator=model,
        name=type(model).__name__,
        n_features_in=getattr(model, "n_features_in_", None),
        feature_names_in=getattr(model, "feature_names_in_", None),
        convex=True,
    )


def _strength(model: LogisticRegression) -> Tensor:
    """1 / C as a column: one value, or one a row of coef_."""
    if isinstance(model, LogisticRegressionCV):
        if not model.refit:
            raise UnsupportedModelError(
                "model: LogisticRegressionCV(refit=False) averages the coefficients of its folds, "
                "which minimise no single objective. Fit it with refit=True."
            )
        C = np.asarray(model.C_)
        l1_ratio = max(float(ratio or 0.0) for ratio in np.ravel(model.l1_ratio_))
    else:
        C, l1_ratio = np.asarray(model.C), float(model.l1_ratio or 0.0)
    penalty = getattr(model, "penalty", "deprecated")
    if penalty is None:
        C = np.asarray(np.inf)
    has_l1 = penalty == "l1" or (penalty in ("deprecated", "elasticnet") and l1_ratio != 0)
    if has_l1:
        raise UnsupportedModelError(
            f"model: {type(model).__name__} has an L1 penalty (penalty={penalty!r}, "
            f"l1_ratio={l1_ratio}), which has no gradient at the coefficients that it sets to "
            "zero. Accepted is an L2 penalty or none (C=np.inf)."
        )
    return torch.as_tensor(1.0 / C.astype(np.float64).reshape(-1, 1))


def _loss(model: LogisticRegression) -> tuple[OutputLoss, ClassWeight]:
    """Loss and class weight of the Task."""
    multi_class = getattr(model, "multi_class", "deprecated")
    binary = len(model.classes_) == 2
    weight = _class_weight(model)
    if binary:
        if multi_class == "multinomial":
            raise UnsupportedModelError(
                "model: LogisticRegression(multi_class='multinomial') on two classes has two "
                "opposite logits but one row of coefficients. Fit it without multi_class."
            )
        return BinaryCrossEntropy(), weight
    if multi_class != "ovr" and model.solver != "liblinear":
        return CrossEntropy(), weight
    if isinstance(weight, str):
        raise UnsupportedModelError(
            "model: one-versus-rest LogisticRegression with class_weight='balanced' weighs each "
            "of its problems by label counts that it does not keep. Give class_weight as a dict, "
            "or fit it without solver='liblinear' and multi_class."
        )
    if model.solver == "liblinear":
        # liblinear weighs a class in its own problem only, and not among "the rest"
        return BinaryCrossEntropy(positive_weight=weight), None
    return BinaryCrossEntropy(), weight


def _class_weight(model: Any) -> ClassWeight:
    if model.class_weight is None:
        return None
    if isinstance(model.class_weight, str):
        return "balanced"
    weights = [float(model.class_weight.get(label, 1.0)) for label in model.classes_.tolist()]
    return torch.tensor(weights, dtype=torch.from_numpy(np.zeros(0, model.coef_.dtype)).dtype)
