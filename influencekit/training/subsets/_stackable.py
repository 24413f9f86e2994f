"""Whether a net can be trained in a stack, and if not, why."""

from __future__ import annotations

from typing import Any

import torch
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier, NeuralNetRegressor
from skorch.callbacks import EpochScoring, EpochTimer, PassthroughScoring, PrintLog, ProgressBar
from skorch.dataset import Dataset
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    SequentialSampler,
    default_collate,
)

from influencekit.models._optimizers import optimizers_that
from influencekit.training._checkpoints import KeepCheckpoints
from influencekit.training._randomness import seeded
from influencekit.training.estimator._recipe import fresh_copy

__all__ = ["why_not_stacked"]

#: What a subclass of NeuralNet may do in its own way without changing the training loop.
FREE_METHODS = {
    "__init__",
    "infer",
    "get_loss",
    "initialize_module",
    "initialize_criterion",
    "initialize_optimizer",
    "predict",
    "predict_proba",
    "score",
    "classes_",
    "check_data",
    "get_default_callbacks",
    "_default_callbacks",
}

SKORCH_NETS = (NeuralNet, NeuralNetClassifier, NeuralNetBinaryClassifier, NeuralNetRegressor)

PASSIVE_CALLBACKS = (EpochTimer, KeepCheckpoints, PassthroughScoring, PrintLog, ProgressBar)


def why_not_stacked(estimator: Any) -> str | None:
    """Reason why an estimator cannot be trained in a stack; None if it can.

    Parameters
    ----------
    estimator : estimator
        A net's configuration is read from a freshly initialised clone.

    Returns
    -------
    str or None
    """
    if not isinstance(estimator, NeuralNet):
        return f"{type(estimator).__name__} is no skorch net"
    net = fresh_copy(estimator, 0)
    if net.compile:
        return "compile=True"
    with seeded(0, net.device or "cpu"):
        return _changed_loop(net) or _iterator_reason(net) or _initialised_reason(net.initialize())


def _changed_loop(net: NeuralNet) -> str | None:
    """A method of the training loop that the net's class has replaced."""
    for cls in type(net).__mro__:
        if cls in SKORCH_NETS:
            break
        own = {n for n, v in vars(cls).items() if callable(v) or isinstance(v, property)}
        replaced = sorted(n for n in own - FREE_METHODS if hasattr(NeuralNet, n))
        if replaced:
            return f"{cls.__name__} has its own {', '.join(replaced)}"
    if net.dataset is not Dataset or net.get_params_for("dataset"):
        return "the net has its own dataset"
    return None


def _iterator_reason(net: NeuralNet) -> str | None:
    if net.iterator_train is not DataLoader:
        return "the net has its own iterator_train"
    loader = net.get_iterator(Dataset(list(range(4))), training=True)
    usual = (
        type(loader.sampler) in (RandomSampler, SequentialSampler)
        and type(loader.batch_sampler) is BatchSampler
        and loader.collate_fn is default_collate
        and loader.generator is None
        and loader.num_workers == 0
    )
    if not usual:
        return "iterator_train has a sampler, generator, collate_fn or workers of its own"
    return None


def _initialised_reason(net: NeuralNet) -> str | None:
    if list(net._optimizers) != ["optimizer"]:
        return f"the net has the optimisers {list(net._optimizers)}"
    accepted = optimizers_that("elementwise")
    if type(net.optimizer_) not in accepted.values():
        return f"optimizer {type(net.optimizer_).__name__} is not one of {', '.join(accepted)}"
    for name, callback in net.callbacks_:
        scoring = type(callback) is EpochScoring and not callback.on_train
        if not scoring and type(callback) not in PASSIVE_CALLBACKS:
            return f"callback {name!r} ({type(callback).__name__})"
    parts = [getattr(net, name + "_") for name in [*net._modules, *net._criteria]]
    for part in parts:
        for name, p in part.named_parameters() if isinstance(part, torch.nn.Module) else ():
            if isinstance(p, torch.nn.parameter.UninitializedParameter):
                return f"parameter {name!r} has no shape before the first forward (lazy module)"
    return None
