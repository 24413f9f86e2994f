"""Frozen snapshots of fitted models: everything that attribution needs to know about them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property, reduce, singledispatch
from typing import Any, Literal

import numpy as np
import torch
from sklearn.base import clone
from skorch import NeuralNet
from torch import Tensor, nn

from influencekit.exceptions import UnsupportedModelError
from influencekit.models._balanced import balanced_weights
from influencekit.models._call import call_module
from influencekit.models._module import duplicate
from influencekit.models._no_gradients import no_gradients
from influencekit.models._several_outputs import loss_output
from influencekit.models.losses._base import OutputLoss, class_positions
from influencekit.models.snapshot._kept import put_back
from influencekit.models.snapshot._own_predictions import refuse_other_predictions
from influencekit.utils._torch import (
    MODULE_LOCK,
    count_rows,
    twice,
    uncompiled,
    with_gradients,
    without_cudnn,
)

__all__ = ["Task", "TaskList", "as_task", "is_model_list"]

Inputs = Any  # a tensor, or a tuple / dict of tensors: what the module's forward takes


@dataclass(frozen=True, eq=False)
class Task:
    """Snapshot of a fitted model.

    The model's training objective is read as::

        (1 / W) Σ_i w_i loss(outputs(x_i; θ), y_i)  +  ½ Σ_k r_k θ_k²,     W = Σ_i w_i

    with ``r = penalty`` for ``penalty_kind="mean"`` and ``r = penalty / W`` for ``"sum"``.
    Weights ``w_i`` are class weights times the examples' ``sample_weight``.

    Parameters
    ----------
    module : torch.nn.Module
        Copy in eval mode; trainable parameters have ``requires_grad=True``.
    loss : OutputLoss
        Per-example loss of the natural outputs.
    link : callable or None
        Natural outputs from the module's raw outputs (``log`` for a softmax module).
    classes : ndarray or None
        Label of each class position; None for regression and for torch modules, whose targets are
        passed to the loss unchanged.
    transform : callable or None
        Function applied to raw ``X`` before the module (a Pipeline's fitted steps).
    penalty : mapping of parameter name to Tensor
        Strength of the L2 penalty, broadcastable to the parameter; missing names are 0.
    penalty_kind : {"sum", "mean", "rows"}
        "sum": the penalty is added to the *summed* loss and stays the same when the model is
        retrained without a row (Ridge, LogisticRegression's C). "mean": it is added to the mean
        loss, which is normalized by the number of rows (weight decay). Scores always predict the
        effect of removing the row's term with the rest of the objective unchanged, which for "sum"
        is retraining without the row. "rows": like "mean", with the *number* of rows in place of W
        (SGDClassifier).
    class_weight : Tensor of shape (n_classes,), "balanced" or None
        Weight of each class in the training objective; "balanced" as in scikit-learn.
        Losses that weight each output column (one-versus-rest) contain their own weights.
    training_rows : callable or None
        ``training_rows(rows, y) -> bool ndarray (n,)``: which rows the model learned from, given
        row numbers (n, 1) and targets (class positions for a classifier). None: all rows.
    input_targets : callable or None
        ``input_targets(inputs) -> targets (n, ...)``: the targets contained in a batch of inputs,
        used if none are given (a language model's next tokens).
    collate_fn : callable or None
        ``collate_fn(items) -> batch``: how a Dataset's items become a batch where its loader does
        not say (a tokenized text is padded). None is torch's way.
    estimator : object
        The fitted estimator (a Pipeline's last step, a search's best), or the module.
        Kept for retraining; never changed.  In a pickled or copied Task a skorch net is its
        unfitted clone.
    name : str
        Name of the model in messages.
    n_features_in : int or None
        Number of features of raw ``X``, if the model knows it.
    feature_names_in : ndarray of str or None
        Column names of raw ``X``, if the model was fitted on a DataFrame.
    convex : bool
        Whether it is a scikit-learn model with a convex objective.
    needs_two : bool
        Whether the module loses the axis of a single example (``x.squeeze()``), so that one
        example is run twice.
    keeps_outputs : bool
        Whether the module keeps what it computed with gradients (a cache), so that its attributes
        are put back after each pass.
    output_place : tuple or None
        Position, level by level, of the loss's entry in a tuple of outputs without names; None
        until data have shown it.
    """

    module: nn.Module
    loss: OutputLoss
    link: Callable[[Tensor], Tensor] | None = None
    classes: np.ndarray | None = None
    transform: Callable[[Any], Any] | None = None
    penalty: Mapping[str, Tensor] = field(default_factory=dict)
    penalty_kind: Literal["sum", "mean", "rows"] = "mean"
    class_weight: Tensor | Literal["balanced"] | None = None
    training_rows: Callable[[Any, Any], np.ndarray] | None = None
    input_targets: Callable[[Any], Tensor] | None = None
    collate_fn: Callable[[list], Any] | None = None
    estimator: Any = None
    name: str = "model"
    n_features_in: int | None = None
    feature_names_in: np.ndarray | None = None
    convex: bool = False
    needs_two: bool = False
    keeps_outputs: bool = False
    output_place: tuple[Any, ...] | None = None

    def __repr__(self) -> str:
        classes = "" if self.classes is None else f", n_classes={len(self.classes)}"
        return (
            f"Task({self.name!r}, problem_type={self.problem_type!r}{classes}, "
            f"loss={type(self.loss).__name__}, n_parameters={self.n_parameters:,}, "
            f"dtype={self.input_dtype}, device={self.device})"
        )

    @property
    def problem_type(self) -> str:
        """Kind of problem: "classification", "regression" or "other"."""
        return self.loss.problem_type

    @cached_property
    def parameters(self) -> dict[str, nn.Parameter]:
        """Trainable parameters in the order of every flattened gradient."""
        with MODULE_LOCK:
            return {k: p for k, p in self.module.named_parameters() if p.requires_grad}

    @cached_property
    def n_parameters(self) -> int:
        """Number of trainable scalars."""
        return sum(p.numel() for p in self.parameters.values())

    @cached_property
    def input_dtype(self) -> torch.dtype:
        """Floating dtype of the first trainable parameter; inputs are cast to it."""
        return next(iter(self.parameters.values())).dtype

    @cached_property
    def dtype(self) -> torch.dtype:
        """Floating dtype of losses, gradients and all algebra.

        The widest of the trainable parameters', float32 at least: half precision is for weights and
        activations, and does not carry a loss or a curvature.
        """
        dtypes = (p.dtype for p in self.parameters.values())
        return reduce(torch.promote_types, dtypes, torch.float32)

    @cached_property
    def device(self) -> torch.device:
        """Device of the trainable parameters; batches are moved to it."""
        return next(iter(self.parameters.values())).device

    def forward(self, inputs: Inputs, parameters: Mapping[str, Tensor] | None = None) -> Tensor:
        """Natural outputs of a batch; all code gets them from here.

        Parameters
        ----------
        inputs : Tensor, tuple or dict of Tensor
            Inputs of the module.
        parameters : mapping of str to Tensor, default=None
            Tensors that replace the parameters and buffers with these names. They may belong to a
            ``torch.func`` transform.

        Returns
        -------
        Tensor of shape (n, n_outputs) or (n, ..., n_outputs)

        Notes
        -----
        The module runs in its current mode. For another mode, or a separate copy, make another
        Task: ``dataclasses.replace(task, module=...)``.
        """
        alone = self.needs_two and count_rows(inputs) == 1
        inputs = twice(inputs) if alone else inputs
        kept = put_back(self.module) if self.keeps_outputs else nullcontext()
        with MODULE_LOCK, uncompiled(), without_cudnn(self.module), kept:
            raw = call_module(self.module, inputs, parameters)
        if not isinstance(raw, Tensor):
            raw = loss_output(raw, self.loss, self.output_place, type(self.module).__name__)
        if raw.is_floating_point() and raw.element_size() < 4:  # a loss would be rounded
            raw = raw.to(self.dtype)
        outputs = raw if self.link is None else self.link(raw)
        outputs = outputs[:1] if alone else outputs
        return outputs[:, None] if outputs.ndim == 1 else outputs

    def penalty_vector(self, total_weight: float, n_rows: int | None = None) -> Tensor:
        """Diagonal of the penalty relative to the *mean* loss, float64, shape (n_parameters,).

        ``total_weight`` is W, and ``n_rows`` the number of rows (W if None).
        """
        per = {"sum": 1.0, "rows": total_weight if n_rows is None else n_rows}
        scale = per.get(self.penalty_kind, total_weight) / total_weight
        parts = []
        for name, p in self.parameters.items():
            strength = torch.as_tensor(
                self.penalty.get(name, 0.0), dtype=torch.float64, device=p.device
            )
            parts.append(scale * strength.expand(p.shape).reshape(-1))
        return torch.cat(parts)

    def example_weights(self, targets: Tensor, sample_weight: Tensor | None = None) -> Any:
        """Weights (n,) of the whole training set; None if all equal 1.

        Parameters
        ----------
        targets : Tensor of shape (n, ...)
        sample_weight : Tensor of shape (n,) or None, default=None
            Weights of the examples.

        Returns
        -------
        Tensor of shape (n,) or None
        """
        weights = self._class_weights(targets, sample_weight)
        if sample_weight is None:
            return weights
        return sample_weight if weights is None else weights * sample_weight

    def _class_weights(self, targets: Tensor, sample_weight: Tensor | None) -> Tensor | None:
        if self.class_weight is None or self.loss.weighs_classes(targets):
            return self.loss.example_weights(targets)
        targets = class_positions(targets)
        if isinstance(self.class_weight, str):
            weight = balanced_weights(targets, sample_weight, self.dtype)
        else:
            weight = self.class_weight
        return weight.to(targets.device)[targets]

    def __getstate__(self) -> dict[str, Any]:
        """State for pickle and copy.

        A skorch net is stored as its unfitted clone: a fitted net pickles its module inside its own
        bytes, which another process cannot read if the module's class is defined in ``__main__``.
        Retraining needs only the clone. The module is stored as a copy, because another thread may
        be running it.
        """
        state = {key: value for key, value in vars(self).items() if key not in _CACHED}
        state["module"] = duplicate(self.module)
        if isinstance(self.estimator, NeuralNet):
            state["estimator"] = clone(self.estimator)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Tensors unpickled under ``torch.inference_mode`` cannot have gradients; use a copy."""
        if torch.is_inference_mode_enabled():
            state = {**state, "module": duplicate(state["module"])}
        vars(self).update(state)


_CACHED = ("parameters", "n_parameters", "input_dtype", "dtype", "device")


@with_gradients
@refuse_other_predictions
@singledispatch
def as_task(model: Any, loss: Any = None) -> Task:  # noqa: ARG001  registered adapters take it
    """Snapshot a fitted model as a :class:`Task`.

    Extend it to your own models with ``@as_task.register``.

    Parameters
    ----------
    model : fitted model
        torch module (give ``loss``), model of the transformers library, skorch net, fitted
        Pipeline, fitted GridSearchCV / RandomizedSearchCV, FrozenEstimator,
        scikit-learn's linear models, generalized linear models, KernelRidge and MLPs, and its
        models that hold such a model (for the list see the page on models), or a Task, which is
        returned unchanged.
    loss : callable or torch.nn.Module, default=None
        Needed for a bare torch module: the loss it was trained with.  For a skorch net or a model
        of the transformers library, it replaces the model's own loss. For other models it is an
        error.

    Returns
    -------
    Task

    Raises
    ------
    UnsupportedModelError
        If the model's objective is not supported; the message says why.
    NotFittedError
        If the model is not fitted.
    TypeError
        If a loss is missing, or given but not needed.

    Notes
    -----
    A fitted model does not keep the ``sample_weight`` of its fit: also give it to the attributor's
    fit.
    """
    if isinstance(model, type):
        raise UnsupportedModelError(
            f"model: got the class {model.__name__}; accepted is a fitted instance of it."
        )
    raise no_gradients(model)


def refuse_loss(model: Any, loss: Any) -> None:
    """Refuse ``loss`` for a model that has its own."""
    if loss is not None:
        raise TypeError(
            f"loss: {type(model).__name__} has its own loss, which is read from it; leave it out."
        )


@as_task.register
def _(model: Task, loss: Any = None) -> Task:
    if loss is not None:
        raise TypeError("loss: the model is already a Task, which has its loss; leave it out.")
    return model


class TaskList(tuple):
    """Tasks of several models trained on the same data, in order.

    Parameters
    ----------
    iterable : iterable of Task
        Use :meth:`TaskList.of` for models.
    """

    def __repr__(self) -> str:
        first = f", first={self[0]!r}" if self else ""
        return f"TaskList(n_models={len(self)}{first})"

    @classmethod
    def of(cls, models: Iterable[Any]) -> TaskList:
        """Tasks of fitted models, checked to be of the same kind.

        Parameters
        ----------
        models : iterable of fitted models or Tasks

        Returns
        -------
        TaskList

        Raises
        ------
        UnsupportedModelError
            If models differ in their kind of problem or their classes.
        """
        tasks = cls(as_task(model) for model in models)
        first = tasks[0]
        for i, task in enumerate(tasks):
            if not _same_problem(task, first):
                raise UnsupportedModelError(
                    f"model: item {i} of the list is a {task.problem_type} model with classes "
                    f"{task.classes}, item 0 a {first.problem_type} model with {first.classes}. "
                    "Scores are averaged over models of the same task, trained on the same data."
                )
        return tasks


def _same_problem(a: Task, b: Task) -> bool:
    if a.problem_type != b.problem_type or a.classes is None or b.classes is None:
        return a.problem_type == b.problem_type and a.classes is b.classes
    return list(a.classes) == list(b.classes)


def is_model_list(model: Any) -> bool:
    """Whether an argument is a list of models rather than data.

    Parameters
    ----------
    model : object

    Returns
    -------
    bool
    """
    if isinstance(model, TaskList):
        return True
    if not isinstance(model, (list, tuple)) or not model:
        return False
    known = as_task.dispatch
    return all(hasattr(x, "fit") or known(type(x)) is not known(object) for x in model)
