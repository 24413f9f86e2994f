"""The models of a sensitivity study: an ensemble, each member at several checkpoints."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from sklearn.utils import check_random_state
from skorch import NeuralNet

from influencekit._fitted import learned_rows
from influencekit.data._examples import each, make_examples
from influencekit.exceptions import HeldOutRowsWarning
from influencekit.models._checkpoints import load_checkpoints
from influencekit.models._task import Task, TaskList, as_task, is_model_list
from influencekit.training._checkpoints import check_epochs, kept_checkpoints, train_checkpoints
from influencekit.training._fingerprint import fingerprint
from influencekit.training.estimator._recipe import read_recipe
from influencekit.utils._random import draw_seed

__all__ = ["StudyModels", "data_fingerprint"]


class StudyModels:
    """Tasks of each model at each checkpoint, made on request.

    Parameters
    ----------
    model : fitted model, Task, or list of them
    X, y : training data, for checkpoints that have to be trained
    checkpoints : mapping or None
        Maps labels to a model, state dict or path, or a list with one for each model.
    training_epochs : list of int or None
    random_state : int, RandomState instance or None
    """

    def __init__(
        self, model: Any, X: Any, y: Any, checkpoints: Any, training_epochs: Any, random_state: Any
    ):
        self.is_list = is_model_list(model)
        self._models = list(model) if self.is_list else [model]
        self._data = X, y
        self._given = self._read_checkpoints(checkpoints, training_epochs)
        self._epochs = None
        self._keys: dict[tuple, str] = {}
        self._tasks: dict[Any, TaskList] = {"final": TaskList.of(self._models)}
        if training_epochs is not None:
            self._epochs = check_epochs(training_epochs, "training_epochs")
            self._kept = [kept_checkpoints(m, self._epochs) for m in map(_model, self._models)]
            rng = check_random_state(random_state)
            self._seeds = [draw_seed(rng) for _ in self._models]

    @property
    def labels(self) -> list:
        """Checkpoints other than "final", in order."""
        return list(self._given) if self._epochs is None else list(self._epochs)

    def __len__(self) -> int:
        return len(self._models)

    def at(self, checkpoint: Any, n_models: int) -> Task | TaskList:
        """The models for a fit: the first ones, at one or several checkpoints."""
        if isinstance(checkpoint, tuple):
            lists = [self._at(label)[:n_models] for label in checkpoint]
            return TaskList(task for tasks in lists for task in tasks)
        tasks = TaskList(self._at(checkpoint)[:n_models])
        return tasks if self.is_list else tasks[0]

    def key(self, checkpoint: Any, n_models: int, train: Any, queries: Any) -> str:
        """Fingerprint of what :meth:`at` returns, without training."""
        labels = checkpoint if isinstance(checkpoint, tuple) else (checkpoint,)
        pairs = [(label, i) for label in labels for i in range(n_models)]
        for pair in pairs:
            if pair not in self._keys:
                self._keys[pair] = self._key(*pair, train, queries)
        return fingerprint(
            self.is_list or isinstance(checkpoint, tuple), [self._keys[pair] for pair in pairs]
        )

    def _key(self, label: Any, i: int, train: Any, queries: Any) -> str:
        if self._epochs is None or label == "final":
            return _task_key(self._at(label)[i], train, queries)
        kept = self._kept[i]
        if kept:
            return fingerprint("kept", kept[label])
        estimator = read_recipe(_model(self._models[i])).estimator
        return fingerprint("trained", estimator, label, self._seeds[i])

    def _at(self, label: Any) -> TaskList:
        if label not in self._tasks:
            if self._epochs is not None:
                self._train(self._epochs)
            else:
                self._tasks[label] = _open_checkpoint(self._models, self._given[label], label)
        return self._tasks[label]

    def _train(self, epochs: list[int]) -> None:
        """Checkpoints of all epochs, from one run of each model."""
        X, y = self._data
        runs = []
        for model, seed, kept in zip(self._models, self._seeds, self._kept, strict=True):
            states = kept or train_checkpoints(_model(model), X, y, epochs, random_state=seed)
            runs.append(load_checkpoints(as_task(model), [states[e] for e in epochs]))
        for i, epoch in enumerate(epochs):
            self._tasks[epoch] = TaskList(run[i] for run in runs)

    def _read_checkpoints(self, checkpoints: Any, training_epochs: Any) -> dict:
        if checkpoints is None:
            return {}
        if training_epochs is not None:
            raise ValueError(
                "checkpoints: training_epochs makes checkpoints too; give one of them."
            )
        if not isinstance(checkpoints, Mapping) or not checkpoints or "final" in checkpoints:
            got = list(checkpoints) if isinstance(checkpoints, Mapping) else checkpoints
            raise ValueError(
                f"checkpoints: got {got!r}; accepted is a dict from labels (other than 'final') "
                "to models, state dicts or paths of state dicts, such as {5: 'epoch5.pt'}."
            )
        return dict(checkpoints)


def _model(model: Any) -> Any:
    """The estimator that a Task was made from."""
    return model.estimator if isinstance(model, Task) else model


def _open_checkpoint(models: list, given: Any, label: Any) -> TaskList:
    """Tasks of one checkpoint, one for each model."""
    several = isinstance(given, (list, tuple))
    items = list(given) if several else [given]
    if len(items) != len(models):
        raise ValueError(
            f"checkpoints: {label!r} has {len(items)} for {len(models)} model(s); accepted is "
            "one for each model given to fit."
        )
    return TaskList.of(_open_one(m, item) for m, item in zip(models, items, strict=True))


def _open_one(model: Any, item: Any) -> Task:
    if isinstance(item, (Task, NeuralNet)) or is_model_list([item]):
        return as_task(item)
    return load_checkpoints(as_task(model), [item])[0]


def _task_key(task: Task, train: Any, queries: Any) -> str:
    """Fingerprint of a model, including its preprocessing by means of the processed data."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HeldOutRowsWarning)
        examples = make_examples(task, *train)
        rows = learned_rows(task, examples)
    parts = [task.module, task.loss, task.link, dict(task.penalty), task.penalty_kind]
    parts += [task.class_weight, rows]
    if task.transform is not None:
        parts += [
            data_fingerprint(examples),
            data_fingerprint(make_examples(task, *queries, require_y=False, name="X_query")),
        ]
    return fingerprint(parts)


def data_fingerprint(examples: Any) -> str:
    """Fingerprint of examples as the (first) model's module sees them."""
    batches = each(examples)[0].batches(1024)
    return fingerprint([(batch.inputs, batch.targets) for batch in batches])
