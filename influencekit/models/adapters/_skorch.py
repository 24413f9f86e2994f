"""skorch nets as Tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier
from torch import Tensor, nn

from influencekit.exceptions import UnsupportedModelError
from influencekit.models._links import LogProbabilities
from influencekit.models._module import copy_module, like_parameters
from influencekit.models._optimizers import weight_decay_penalty
from influencekit.models._task import Task, as_task
from influencekit.models.adapters._held_out_rows import skorch_training_rows
from influencekit.models.adapters._skorch_objective import SkorchObjective
from influencekit.models.losses._criteria import Criterion, read_criterion
from influencekit.models.losses._cross_entropy import CrossEntropy
from influencekit.models.losses._custom import CustomLoss

__all__ = ["skorch_task"]


@as_task.register(NeuralNet)
def skorch_task(model: NeuralNet, loss: Any = None) -> Task:
    """Task of a fitted skorch net, from its ``module_``, ``criterion_`` and ``optimizer_``.

    The net's targets are passed to its criterion unchanged, as in skorch: integer class positions
    for NLLLoss and CrossEntropyLoss.  String labels cannot be fitted by skorch itself; encode them
    with LabelEncoder.  The net's ``classes`` name classes only in skorch's scores.

    Weight decay of SGD, Adam and similar optimizers becomes the penalty; the decoupled weight decay
    of AdamW is not a term of an objective and is left out. ``train_split`` determines the training
    rows.

    Parameters
    ----------
    model : skorch.NeuralNet
    loss : torch.nn.Module or callable, default=None
        Replaces the criterion: the per-example loss of the module's output. A net's own
        ``get_loss`` is read as a function of output and targets; one that also reads the inputs or
        the module's weights needs it.

    Returns
    -------
    Task

    Raises
    ------
    NotFittedError
        If the net is not fitted.
    UnsupportedModelError
        If the net overrides the methods that define its objective, or its split cannot be
        recovered.
    """
    check_is_fitted(model, "module_")  # skorch 1.2 has more names that end with an underscore
    _check_trained(model)
    criterion = _read(model) if loss is None else read_criterion(loss)
    trained = getattr(model.module_, "_orig_mod", model.module_)
    module = copy_module(trained)
    penalty_kind, scale = _penalty_scale(model, criterion)
    penalty = weight_decay_penalty(model.optimizer_, trained, scale)
    if penalty_kind == "mean" and criterion.reduction != "mean":
        _refuse_weighted_sum(criterion, penalty)
    return Task(
        module=module,
        loss=criterion.loss,
        link=criterion.link,
        class_weight=like_parameters(criterion.class_weight, module),
        output_place=(0,),  # skorch predicts by the first of several outputs
        penalty=penalty,
        penalty_kind=penalty_kind,
        training_rows=skorch_training_rows(model.train_split),
        estimator=model,
        name=type(model).__name__,
    )


def _refuse_weighted_sum(criterion: Criterion, penalty: Mapping[str, Tensor]) -> None:
    decays = any(bool((torch.as_tensor(r) != 0).any()) for r in penalty.values())
    if decays and criterion.class_weight is not None:
        raise UnsupportedModelError(
            "model: its criterion sums weighted losses over a batch, so the share of weight decay "
            "in the objective depends on the classes in each batch. Train with "
            "reduction='mean', without weight_decay, or with batch_size=-1."
        )


def _check_trained(net: NeuralNet) -> None:
    name = type(net).__name__
    for attribute in ("criterion_", "optimizer_"):
        if getattr(net, attribute, None) is None:
            raise UnsupportedModelError(
                f"model: this {name} has no {attribute} (trim_for_prediction removes it), so its "
                f"objective is not known. Use the net before trimming, or give the module "
                "and its loss: as_task(net.module_, loss=...)."
            )
    modules = list(net._modules)  # noqa: SLF001  skorch has no other name
    if modules != ["module"]:
        raise UnsupportedModelError(
            f"model: this {name} has the modules {modules}; accepted is one, named 'module'."
        )


def _read(net: NeuralNet) -> Criterion:
    """The criterion as the net's own ``get_loss`` calls it."""
    known = (NeuralNet, NeuralNetClassifier, NeuralNetBinaryClassifier)
    if type(net).infer not in [kind.infer for kind in known]:
        raise UnsupportedModelError(
            f"model: {type(net).__name__} overrides infer, so its objective may differ from "
            f"its criterion. Give the loss that it minimizes, a function of the module's "
            "output and the targets: as_task(net, loss=...)."
        )
    criterion = getattr(net.criterion_, "_orig_mod", net.criterion_)
    if type(net).get_loss not in [kind.get_loss for kind in known]:
        reduction = read_criterion(criterion).reduction
        return Criterion(CustomLoss(SkorchObjective(net)), reduction=reduction)
    read = read_criterion(criterion)
    takes_log = type(net).get_loss is NeuralNetClassifier.get_loss
    if takes_log and isinstance(criterion, nn.NLLLoss):
        if type(criterion) is not nn.NLLLoss:
            raise UnsupportedModelError(
                f"model: its criterion {type(criterion).__name__} is derived from NLLLoss. "
                "Give the loss of the module's output itself: as_task(net, loss=...)."
            )
        return read._replace(loss=CrossEntropy(), link=LogProbabilities())
    return read


def _penalty_scale(net: NeuralNet, criterion: Criterion) -> tuple[Literal["sum", "mean"], float]:
    """Kind of penalty that corresponds to weight decay, and its factor.

    If the criterion sums over the batch, weight decay is added once per batch: relative to the mean
    loss, that is the decay divided by the batch size.
    """
    if criterion.reduction == "mean":
        return "mean", 1.0
    size = getattr(net, "iterator_train__batch_size", net.batch_size)
    return ("sum", 1.0) if size == -1 else ("mean", 1.0 / size)
