"""scikit-learn's MLPClassifier and MLPRegressor as Tasks."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.utils.validation import check_is_fitted
from torch import nn

from influencekit.exceptions import UnsupportedModelError
from influencekit.models._task import Task, as_task, refuse_loss
from influencekit.models.adapters._held_out_rows import check_seed, rows_mask
from influencekit.models.adapters._linear import linear_layer
from influencekit.models.losses._base import OutputLoss
from influencekit.models.losses._binary import BinaryCrossEntropy
from influencekit.models.losses._cross_entropy import CrossEntropy
from influencekit.models.losses._elementwise import PoissonLoss, SquaredError

__all__ = ["MLPRows", "mlp_task"]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "identity": nn.Identity,
    "logistic": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
}


@as_task.register(MLPClassifier)
@as_task.register(MLPRegressor)
def mlp_task(model: MLPClassifier | MLPRegressor, loss: Any = None) -> Task:
    """Task of a fitted MLPClassifier or MLPRegressor.

    The objective of a batch of size B is ``(1/B) (Σ_i loss_i + ½ α Σ |W|²)``, without a penalty on
    biases. If trained on batches, the penalty added to the mean loss is α / B (kind "mean"; a
    shorter last batch is ignored). If trained on all rows at once (lbfgs, or a batch size of n),
    the penalty is added to the summed loss (kind "sum").

    The regression loss is the one that scikit-learn minimizes, half the squared error summed over
    outputs; the loss that it reports is the mean over outputs.

    A ``sample_weight`` given to fit is not stored in the fitted model, so it is not taken into
    account.

    Parameters
    ----------
    model : MLPClassifier or MLPRegressor
    loss : None

    Returns
    -------
    Task

    Raises
    ------
    UnsupportedModelError
        If ``early_stopping`` held out rows that cannot be recovered.
    """
    refuse_loss(model, loss)
    check_is_fitted(model)
    module = _module(model)
    kind, strength = _penalty(model)
    labels = isinstance(model, MLPClassifier) and not _is_multilabel(model)
    return Task(
        module=module,
        loss=_loss(model),
        classes=model.classes_ if labels else None,
        penalty={
            name: torch.tensor(strength, dtype=torch.float64)
            for name, _ in module.named_parameters()
            if name.endswith("weight")
        },
        penalty_kind=kind,
        training_rows=_training_rows(model),
        estimator=model,
        name=type(model).__name__,
        n_features_in=getattr(model, "n_features_in_", None),
        feature_names_in=getattr(model, "feature_names_in_", None),
    )


def _module(model: Any) -> nn.Sequential:
    module = nn.Sequential()
    last = len(model.coefs_) - 1
    for i, (coef, intercept) in enumerate(zip(model.coefs_, model.intercepts_, strict=True)):
        module.add_module(f"linear{i}", linear_layer(coef.T, intercept))
        if i < last and model.activation != "identity":
            module.add_module(f"{model.activation}{i}", ACTIVATIONS[model.activation]())
    return module.eval()


def _loss(model: Any) -> OutputLoss:
    if model.out_activation_ == "softmax":
        return CrossEntropy()
    if model.out_activation_ == "logistic":
        return BinaryCrossEntropy(multilabel=True)
    return PoissonLoss() if model.out_activation_ == "exp" else SquaredError(0.5)


def _is_multilabel(model: MLPClassifier) -> bool:
    return model.out_activation_ == "logistic" and model.n_outputs_ > 1


def _penalty(model: Any) -> tuple[Literal["sum", "mean"], float]:
    alpha = float(model.alpha)
    if model.solver == "lbfgs":
        return "sum", alpha
    n_rows = model.t_ // max(model.n_iter_, 1)  # rows per epoch; an upper bound after
    size = 200 if model.batch_size == "auto" else model.batch_size  # partial_fit, warm_start
    return ("sum", alpha) if size >= n_rows else ("mean", alpha / size)


class MLPRows:
    """Rows that an MLP with ``early_stopping`` trained on.

    scikit-learn draws the split after the initial weights, from the same generator, so the weights
    are drawn again first.

    Parameters
    ----------
    random_state : int
    layers : list of (int, int)
        Number of inputs and outputs of each layer.
    validation_fraction : float
    stratify : bool
    """

    def __init__(
        self,
        random_state: int,
        layers: list[tuple[int, int]],
        validation_fraction: float,
        stratify: bool,
    ):
        self.random_state = random_state
        self.layers = layers
        self.validation_fraction = validation_fraction
        self.stratify = stratify

    def __call__(self, _X: Any, y: Any) -> np.ndarray:
        """Mask (n,) of the training rows."""
        generator = np.random.RandomState(self.random_state)
        for n_in, n_out in self.layers:
            generator.uniform(size=(n_in, n_out))
            generator.uniform(size=n_out)
        train, _ = train_test_split(
            np.arange(len(y)),
            random_state=generator,
            test_size=self.validation_fraction,
            stratify=np.asarray(y).reshape(-1) if self.stratify else None,
        )
        return rows_mask(train, len(y))


def _training_rows(model: Any) -> MLPRows | None:
    if not model.early_stopping or model.solver == "lbfgs":
        return None
    check_seed(model.random_state, type(model).__name__)
    if model.warm_start:
        raise UnsupportedModelError(
            f"model: {type(model).__name__} with warm_start=True and early_stopping=True held out "
            f"different rows at each fit, so its training rows are not known. "
            "Fit it with warm_start=False."
        )
    return MLPRows(
        model.random_state,
        [coef.shape for coef in model.coefs_],
        model.validation_fraction,
        stratify=isinstance(model, MLPClassifier) and model.n_outputs_ == 1,
    )
