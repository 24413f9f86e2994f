"""Retraining many skorch nets at once, and which nets allow it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier, NeuralNetRegressor
from skorch.callbacks import EpochScoring, EpochTimer, PassthroughScoring, PrintLog, ProgressBar
from skorch.dataset import Dataset
from torch import Tensor
from torch.utils._pytree import tree_map
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    SequentialSampler,
    default_collate,
)

from influencekit.data._examples import make_examples
from influencekit.models._optimizers import optimizers_that
from influencekit.models._task import as_task
from influencekit.training._checkpoints import KeepCheckpoints
from influencekit.training._randomness import seeded, untouched
from influencekit.training.estimator._recipe import fresh_copy
from influencekit.training.estimator._rows import count_rows
from influencekit.training.stack._nets import Data, NetStack, collate_all, initial_stack
from influencekit.training.stack._schedule import (
    Group,
    SubsetSchedule,
    batch_length,
    steps_per_epoch,
)
from influencekit.training.stack._step import OptimizerSpec, StackedStep, groups_of
from influencekit.training.stack._tasks import task_outputs
from influencekit.training.stack._trial import bytes_per_net, why_nets_differ
from influencekit.training.subsets._recorded_run import Run
from influencekit.training.subsets._stack_recording import stack_recording
from influencekit.utils.validation import present

__all__ = ["StackedRetrainer"]


#: Methods that a subclass of NeuralNet may override without changing the training loop.
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
        An estimator; a net's configuration is read from a newly initialized clone.

    Returns
    -------
    str or None
    """
    if not isinstance(estimator, NeuralNet):
        return f"{type(estimator).__name__} is not a skorch net"
    net = fresh_copy(estimator, 0)
    if net.compile:
        return "compile=True"
    with seeded(0, net.device or "cpu"):
        return _changed_loop(net) or _iterator_reason(net) or _initialized_reason(net.initialize())


def _changed_loop(net: NeuralNet) -> str | None:
    """Methods of the training loop that the net's class overrides."""
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
        return "iterator_train has its own sampler, generator, collate_fn or workers"
    return None


def _initialized_reason(net: NeuralNet) -> str | None:
    optimizers = list(net._optimizers)  # noqa: SLF001  skorch has no other name
    if optimizers != ["optimizer"]:
        return f"the net has the optimizers {optimizers}"
    accepted = optimizers_that("elementwise")
    if type(net.optimizer_) not in accepted.values():
        return f"optimizer {type(net.optimizer_).__name__} is not one of {', '.join(accepted)}"
    for name, callback in net.callbacks_:
        scoring = type(callback) is EpochScoring and not callback.on_train
        if not scoring and type(callback) not in PASSIVE_CALLBACKS:
            return f"callback {name!r} ({type(callback).__name__})"
    parts = [getattr(net, name + "_") for name in [*net._modules, *net._criteria]]  # noqa: SLF001  skorch has no other name
    for part in parts:
        for name, p in part.named_parameters() if isinstance(part, torch.nn.Module) else ():
            if isinstance(p, torch.nn.parameter.UninitializedParameter):
                return f"parameter {name!r} has no shape before the first forward (lazy module)"
    return None


#: Memory limit of one stack in bytes; fixed, so that chunks are the same on every machine.
MEMORY_BUDGET = 2**29
MAX_MODELS = 128
#: Parameters of a net above which "auto" does not stack on a CPU, as measured.
MOST_PARAMETERS = 200_000


def train_stack(
    stack: NetStack, data: Data, subsets: Sequence[np.ndarray], record: str | None, n_rows: int
) -> list[Run | None]:
    """Train every model of a stack on its rows, in place; what was recorded of each."""
    net = stack.net
    names = {id(p): name for name, p in stack.loss.named_parameters()}
    spec = OptimizerSpec(type(net.optimizer_), groups_of(net.optimizer_, names))
    step = StackedStep(stack.parameters, spec.build(stack.parameters))
    n_steps = net.max_epochs * int(steps_per_epoch(net, [len(subsets[0])])[0])
    recording = stack_recording(record, stack, step.optimizer, n_steps, n_rows)
    schedule = SubsetSchedule(net, stack.streams, subsets)
    net._set_training(True)  # noqa: SLF001  skorch has no other name
    for _ in range(net.max_epochs):
        for groups in schedule.epoch():
            if recording is not None:
                recording.before_step(groups)
            step(torch.cat([_losses(stack, data, group) for group in groups]).sum())
    return [None] * stack.n_models if recording is None else recording.finish()


def _losses(stack: NetStack, data: Data, group: Group) -> Tensor:
    """Losses of a group's models; updates their buffers."""
    batch = tree_map(lambda t: t[group.rows.to(t.device)], data)
    if group.models is None:
        losses, after = stack.losses(stack.parameters, stack.buffers, stack.streams, batch)
        stack.buffers = {name: b.detach() for name, b in after.items()}
        return losses
    parameters = {
        name: p.index_select(0, group.models.to(p.device)) for name, p in stack.parameters.items()
    }
    buffers = {name: b[group.models] for name, b in stack.buffers.items()}
    streams = [stack.streams[m] for m in group.models.tolist()]
    losses, after = stack.losses(parameters, buffers, streams, batch)
    for name, b in after.items():
        stack.buffers[name][group.models] = b.detach()
    return losses


class StackedRetrainer:
    """Trains a net on many subsets of the same data, in chunks of models.

    Parameters
    ----------
    estimator : NeuralNet
    X, y : array-like
        All rows, as for the net.
    X_query, y_query : array-like
    output : str or callable
    record : {"checkpoints", "trajectory"} or None, default=None

    Attributes
    ----------
    reason : str or None
        Why this net cannot be stacked; None if it can.
    """

    def __init__(
        self,
        estimator: Any,
        X: Any,
        y: Any,
        X_query: Any,
        y_query: Any,
        output: Any,
        record: str | None = None,
    ):
        self.estimator, self.record = estimator, record
        self.X, self.y = X, y
        self.queries = (X_query, y_query)
        self.output = output
        self.data: Data | None = None
        self.reason = why_not_stacked(estimator)
        if self.reason is None:
            self.data = collate_all(estimator, X, y)
            self._try_queries()

    @property
    def _collated(self) -> Data:
        """``data`` of an estimator whose nets can be stacked."""
        return present(self.data, "collated data")

    def chunks(self, subsets: Sequence[np.ndarray], most: int | None = None) -> list[np.ndarray]:
        """Positions of the models that are trained together.

        Models in one chunk take the same number of steps, so that they can share an optimizer.
        Chunks depend on the data, the net and the number of subsets, never on the machine.

        Parameters
        ----------
        subsets : sequence of ndarray of int
        most : int, default=None
            Number of models in a chunk, if fewer than memory allows.

        Returns
        -------
        list of ndarray of int
        """
        net: NeuralNet = self.estimator
        lengths = [len(rows) for rows in subsets]
        steps = steps_per_epoch(net, lengths)
        length = batch_length(net, max(lengths))
        size = MEMORY_BUDGET // max(1, bytes_per_net(net, self._collated, length))
        size = int(np.clip(size, 1, min(MAX_MODELS, most or MAX_MODELS)))
        order = np.argsort(steps, kind="stable")
        cohorts = np.split(order, np.flatnonzero(np.diff(steps[order])) + 1)
        return [c[i : i + size] for c in cohorts for i in range(0, len(c), size)]

    def is_slower(self) -> bool:
        """Whether such nets train faster one by one: in large ones calls cost little on a CPU."""
        if self.reason is not None or torch.device(self.estimator.device or "cpu").type != "cpu":
            return False
        one = initial_stack(self.estimator, [0])
        return sum(p.numel() for p in one.parameters.values()) > MOST_PARAMETERS

    def probe(self, length: int) -> str | None:
        """Try one step of a subset of this length; return what went wrong, or None."""
        if self.reason is None:
            length = batch_length(self.estimator, length)
            self.reason = why_nets_differ(self.estimator, self._collated, length)
        return self.reason

    def run(
        self, subsets: Sequence[np.ndarray], seeds: Sequence[int]
    ) -> tuple[np.ndarray, list[Run | None]]:
        """Train one chunk and evaluate it.

        Returns
        -------
        outputs : ndarray of shape (n_models, n_query), float64
        runs : list of Run or None
            What was recorded of each model.
        """
        with untouched(self.estimator.device or "cpu"):
            stack = initial_stack(self.estimator, seeds)
            runs = train_stack(stack, self._collated, subsets, self.record, count_rows(self.X))
            return np.stack(list(self._outputs(stack))), runs

    def _try_queries(self) -> None:
        """Evaluate an untrained net, to report a wrong output or query before training."""
        for _ in self._outputs(initial_stack(self.estimator, [0])):
            pass

    def _outputs(self, stack: NetStack) -> Iterator[np.ndarray]:
        net = stack.net
        net.check_data(self.X, self.y)  # shows a classifier all classes
        stack.load(0, net.module_)
        task = as_task(net)
        X_query, y_query = self.queries
        examples = make_examples(task, X_query, y_query, require_y=False, name="X_query")
        in_place = stack.can_load(task.module)
        for model in range(stack.n_models):
            stack.load(model, task.module if in_place else net.module_)
            yield task_outputs(task if in_place else as_task(net), examples, self.output)
