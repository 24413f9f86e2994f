"""What SGD-influence and AdamW-influence have in common."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Iterator
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from influencekit.attributors._gradients import (
    GRADIENT_CONSTRAINTS,
    CheckedOutput,
    training_weights,
)
from influencekit.base import BaseAttributor
from influencekit.data import Examples
from influencekit.exceptions import TrajectoryError
from influencekit.models import Task, predicted_targets, resolve_output
from influencekit.training.trajectory import (
    CURVATURES,
    ErrorProxy,
    FinitePush,
    Jets,
    PlainRecorder,
    Replay,
    Rule,
    StepInfluence,
    StepScores,
    Sweep,
    Trajectory,
    TrajectoryRecorder,
    recorded_trajectory,
)
from influencekit.utils import Interval, StrOptions, parse_memory, progress, with_gradients

__all__ = ["TrajectoryInfluence"]

#: Width of the kernel at a kink, in standard deviations of a unit's inputs over the batch.
KINK_WIDTH = 0.01


class TrajectoryInfluence(BaseAttributor):
    """Derivative of an output by the weights of training examples, through the whole training.

    Children say which step of an optimiser is differentiated.
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {
        **GRADIENT_CONSTRAINTS,
        "trajectory": [Trajectory, str, os.PathLike, PlainRecorder, TrajectoryRecorder, None],
        "curvature": [StrOptions(set(CURVATURES))],
        "removal": [StrOptions({"renormalize", "fixed"})],
        "horizon": [Interval(Integral, 0, None, closed="left"), None],
        "push": [StrOptions({"derivative", "finite"})],
    }

    def __init__(
        self,
        trajectory=None,
        curvature="hessian",
        removal="renormalize",
        horizon=None,
        output="auto",
        *,
        push="derivative",
        batch_size=None,
        max_memory=None,
        verbose=0,
    ):
        self.trajectory = trajectory
        self.curvature = curvature
        self.removal = removal
        self.horizon = horizon
        self.output = output
        self.push = push
        self.batch_size = batch_size
        self.max_memory = max_memory
        self.verbose = verbose

    @abstractmethod
    def _rule(self, trajectory: Trajectory) -> Rule:
        """The step that is differentiated."""

    def _fit(self, task, train):
        if self.push == "finite" and self.horizon is not None:
            raise ValueError(
                f"horizon: got {self.horizon} with push='finite', which takes an example out of "
                "all of its batches together and reads the output once, at the end. Use "
                "horizon=None, or push='derivative'."
            )
        self.trajectory_ = self._find(task)
        self._train = train
        self._replay = Replay(
            task, self.trajectory_, train, self.train_rows_, training_weights(task, train)
        )
        self._sweep = Sweep(
            self._replay,
            self._rule(self.trajectory_),
            self.curvature,
            self.removal,
            self.horizon,
        )
        self._replay.check_end()
        self._replay.verify(*self.trajectory_.segments()[0])  # wrong data is noticed here

    def _find(self, task: Task) -> Trajectory:
        """The trajectory that was given, or that the model's training recorded."""
        given = self.trajectory
        if isinstance(given, (str, os.PathLike)):
            return Trajectory.load(given)
        if given is not None and not isinstance(given, Trajectory):
            given = given.trajectory_
        found = recorded_trajectory(task.estimator) if given is None else given
        if found is None:
            raise TrajectoryError(
                f"model: this {task.name} holds no recording of its training. Train the skorch net "
                "with callbacks=[TrajectoryRecorder()], or a torch module inside "
                "record_trajectory(...) as recorder, and give trajectory=recorder.trajectory_."
            )
        return found

    def _clones(self, n_models):
        if self.trajectory is not None:
            raise TrajectoryError(
                f"trajectory: one recording for {n_models} models. Leave it out (fitted skorch "
                "nets bring their own), or fit one attributor for each model."
            )
        return super()._clones(n_models)

    def _score(self, queries):
        return self._summed(queries, self.output)

    def _summed(self, queries: Examples, output: Any) -> np.ndarray:
        """Scores (n_queries, n_train), over all occurrences of an example."""
        if self.push == "finite":
            rows = torch.arange(self._replay.n_train)
            return self._pushed(self._sweep, queries, output, rows)[1]
        return self._derivatives(self._sweep, queries, output)

    def _derivatives(self, sweep: Sweep, queries: Examples, output: Any) -> np.ndarray:
        """Derivatives (n_queries, n_train) by the weight of an example in all of its batches."""
        scores = torch.zeros(len(queries), self._replay.n_train, dtype=torch.float64)
        for rows, step in self._sweeps(sweep, queries, output):
            scores[rows].index_add_(1, step.rows.cpu(), step.values.double().cpu())
        return scores.numpy()

    def _pushed(self, sweep: Sweep, queries: Examples, output: Any, rows: Tensor) -> np.ndarray:
        """Derivative and finite scores, (2, n_queries, n_rows), of some training examples."""
        replay, push = self._replay, FinitePush(sweep)
        slots = len(sweep.rule.slots)
        number = replay.model.size * torch.finfo(replay.model.dtype).bits // 8
        room = parse_memory(self.max_memory, self.task_.device) // (2 * number)
        n_queries = max(1, min(len(queries), room // (replay.n_steps + 4 * (1 + slots))))
        n_queries = self.batch_size or n_queries
        at_once = max(1, room // (6 + 4 * slots))
        found = np.zeros((2, len(queries), len(rows)))
        blocks = [slice(i, i + n_queries) for i in range(0, len(queries), n_queries)]
        for block in progress(blocks, type(self).__name__, self.verbose, unit="sweep"):
            gradients = self._gradients(queries.take(block), output)
            both = push(gradients, rows.to(self.task_.device), at_once)
            found[:, block] = torch.stack(both).double().cpu().numpy()
        return found

    @with_gradients
    def step_scores(self, X, y=None) -> StepScores:
        """Scores of every occurrence of a training example, step by step.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor, Dataset or DataLoader of n_test examples
        y : array-like of shape (n_test,) or (n_test, n_outputs), default=None

        Returns
        -------
        StepScores
            Steps, rows of X_train, and scores (n_test, n_occurrences), in the order of training.
            Summed over the occurrences of a row they are the row's ``score``.

        Raises
        ------
        TrajectoryError
            After ``fit`` with several models.
        ValueError
            With ``push="finite"``.
        """
        check_is_fitted(self)
        if self.push == "finite":
            raise ValueError(
                "step_scores: push='finite' takes an example out of all of its batches together, "
                "whose effects do not add up. Use push='derivative'."
            )
        if self._members is not None:
            raise TrajectoryError(
                "step_scores: several models have several trajectories; fit one model."
            )
        queries = self._queries(X, y)
        sizes = [len(rows) for rows in self.trajectory_.batches]
        ends = np.cumsum(sizes)
        values = np.zeros((len(queries), int(ends[-1])))
        for rows, step in self._sweeps(self._sweep, queries, self.output):
            end = int(ends[step.step])
            values[rows, end - sizes[step.step] : end] = step.values.double().cpu().numpy()
        return StepScores(
            np.repeat(np.arange(len(sizes)), sizes),
            np.concatenate(self.trajectory_.batches),
            values,
        )

    @with_gradients
    def taylor_error_proxy(
        self, X, y=None, examples=None, *, kind: str = "second_order", chunk_size: int = 32
    ) -> ErrorProxy:
        """What the derivative misses of removing training examples, along the recorded run.

        No kind retrains.  All refer to the run's own optimiser, to its end and to the exact
        curvature.  The formulas are derived here; that of the paper [1]_ was not available.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor, Dataset or DataLoader of n_test examples
        y : array-like of shape (n_test,) or (n_test, n_outputs), default=None
        examples : array-like of int, default=None
            Rows of X_train; None is all that the model learned from.
        kind : {"second_order", "finite", "kinks"}, default="second_order"
            "second_order": removing example j takes its weight from 1 to 0, so that the output f
            loses ``f' - f''/2 + ...``, with derivatives by the weight; ``-f''/2``, exactly.

            "finite": the scores of ``push="finite"`` minus the derivative, the part of the error
            that the optimiser makes.  Added to the scores it is a correction.

            "kinks": the derivative if ReLU had a second derivative by the density of a batch's
            inputs near 0 (normal kernel, 0.01 of each unit's standard deviation), minus the
            derivative.  It is 0 for smooth models.  A flag, not a correction.
        chunk_size : int, default=32
            Examples at a time, of "second_order".

        Returns
        -------
        ErrorProxy
            Its ``scores`` are the derivatives.

        Raises
        ------
        ValueError
            If an example is none of the rows that the model learned from, or ``kind`` is unknown.
        TrajectoryError
            After ``fit`` with several models.

        Notes
        -----
        "second_order" is a flag, not a correction: on short runs with small batches it
        overshoots, and it sees no kinks.  It costs about five training runs for each example,
        ``chunk_size`` of them at once, and the memory of two copies of parameters and optimiser
        state for each example of a chunk.  "kinks" costs two sweeps whatever the examples;
        "finite" a sweep, a replay and, for each example, the optimiser's steps alone.

        References
        ----------
        .. [1] J. Deng, P. Hu, et al. How faithful is trajectory-based data attribution? Error
           sources, remedies, and practical guidelines. 2026, arXiv 2605.18814.
        """
        check_is_fitted(self)
        if self._members is not None:
            raise TrajectoryError(
                "taylor_error_proxy: several models have several trajectories; fit one model."
            )
        if kind not in ("second_order", "finite", "kinks"):
            raise ValueError(
                f"kind: got {kind!r}; accepted are 'second_order', 'finite' and 'kinks'."
            )
        queries = self._queries(X, y)
        rows = self.train_rows_ if examples is None else np.asarray(examples, dtype=np.int64)
        strangers = np.setdiff1d(rows, self.train_rows_)
        if len(strangers):
            raise ValueError(
                f"examples: the model did not learn from rows {strangers[:5].tolist()}; accepted "
                "are training rows that were not held out."
            )
        positions = torch.as_tensor(np.searchsorted(self.train_rows_, rows))
        sweep = Sweep(self._replay, removal=self.removal)
        if kind == "finite":
            first, finite = self._pushed(sweep, queries, self.output, positions)
            return ErrorProxy(rows, first, finite - first)
        if kind == "kinks":
            soft = Sweep(self._replay, removal=self.removal, kink_width=KINK_WIDTH)
            first, bent = (
                self._derivatives(s, queries, self.output)[:, positions] for s in (sweep, soft)
            )
            return ErrorProxy(rows, first, bent - first)
        first, second = self._jets(queries, positions, chunk_size)
        return ErrorProxy(rows, first, -0.5 * second)

    def _jets(self, queries: Examples, rows: Tensor, chunk_size: int) -> Iterator[np.ndarray]:
        """First and second derivatives, each (n_queries, n_rows), of some training examples."""
        outputs = self._outputs(queries, self.output)
        jets, found = Jets(self._replay, self.removal), []
        for chunk in progress(rows.split(chunk_size), "error proxy", self.verbose, unit="chunk"):
            found.append(jets.of_outputs(chunk.to(self.task_.device), outputs))
        return (torch.cat(parts).double().cpu().numpy().T for parts in zip(*found, strict=True))

    def _self_influence(self):
        """Diagonal of the training examples' scores on their own losses."""
        found = np.zeros(len(self._train))
        size = self._queries_at_once(len(found))
        for start in range(0, len(found), size):
            rows = np.arange(start, min(start + size, len(found)))
            if self.push == "finite":
                own = self._train.take(rows), "neg_loss", torch.as_tensor(rows)
                found[rows] = np.diagonal(self._pushed(self._sweep, *own)[1])
                continue
            found[rows] = self._summed(self._train.take(rows), "neg_loss")[
                np.arange(len(rows)), rows
            ]
        return found

    def _sweeps(
        self, sweep: Sweep, queries: Examples, output: Any
    ) -> Iterator[tuple[slice, StepInfluence]]:
        """Rows of the queries, and the influence of each step on them: block after block."""
        size = self._queries_at_once(len(queries))
        blocks = [slice(i, i + size) for i in range(0, len(queries), size)]
        for rows in progress(blocks, type(self).__name__, self.verbose, unit="sweep"):
            for step in sweep(self._gradients(queries.take(rows), output)):
                yield rows, step

    def _queries_at_once(self, n_queries: int) -> int:
        """Queries whose adjoints, and the activations that they are taken through, fit."""
        if self.batch_size is not None:
            return self.batch_size
        replay = self._replay
        fronts = min(max(self.horizon, 1), replay.n_steps) if self.horizon is not None else 1
        tensors = 4 * (1 + len(self._sweep.rule.slots)) * fronts
        number = tensors * replay.model.size * torch.finfo(replay.model.dtype).bits // 8
        return max(1, min(n_queries, parse_memory(self.max_memory, self.task_.device) // number))

    def _gradients(self, queries: Examples, output: Any) -> Callable[[Tensor], Tensor]:
        """Function from parameters (p,) to the gradients (n_queries, p) of the output."""
        values = self._outputs(queries, output)

        def gradients(theta: Tensor) -> Tensor:
            theta = theta.detach().requires_grad_(True)
            found = values(theta)
            each = torch.eye(len(found), dtype=found.dtype, device=found.device)
            return torch.autograd.grad(found, theta, each, is_grads_batched=True)[0]

        return gradients

    def _outputs(self, queries: Examples, output: Any) -> Callable[[Tensor], Tensor]:
        """Function from parameters (p,) to the output (n_queries,)."""
        model, task = self._replay.model, self.task_
        function = resolve_output(task, output, queries.targets is not None)
        function = CheckedOutput(function) if callable(output) else function
        batch = next(queries.batches(len(queries)))
        targets = batch.targets
        if targets is None:
            with torch.no_grad():
                targets = predicted_targets(task, task.forward(batch.inputs))
        return lambda theta: function(model.outputs(theta, batch.inputs, training=False), targets)
