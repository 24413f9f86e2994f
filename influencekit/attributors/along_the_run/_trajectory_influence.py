"""What SGD-influence and AdamW-influence share."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from influencekit._fitted import GRADIENT_CONSTRAINTS, Fitted, training_weights
from influencekit.attributors.along_the_run._fitted_trajectory import FittedTrajectory
from influencekit.base import BaseAttributor
from influencekit.data._examples import Examples, each
from influencekit.exceptions import TrajectoryError
from influencekit.models._task import Task
from influencekit.training.trajectory._error_proxy import ErrorProxy
from influencekit.training.trajectory._optimizers import Rule
from influencekit.training.trajectory._recorder import (
    PlainRecorder,
    TrajectoryRecorder,
    recorded_trajectory,
)
from influencekit.training.trajectory._replay import Replay
from influencekit.training.trajectory._step_loss import CURVATURES
from influencekit.training.trajectory._sweep import StepScores
from influencekit.training.trajectory._trajectory import Trajectory
from influencekit.utils._suggest import check_choice
from influencekit.utils._torch import with_gradients
from influencekit.utils.validation import Interval, StrOptions

__all__ = ["TrajectoryInfluence"]


class TrajectoryInfluence(BaseAttributor):
    """Derivative of an output by the weights of training examples, through the whole training.

    Children say which step of an optimizer is differentiated.
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {
        **GRADIENT_CONSTRAINTS,
        "trajectory": [Trajectory, str, os.PathLike, PlainRecorder, TrajectoryRecorder, None],
        "curvature": [StrOptions(set(CURVATURES))],
        "removal": [StrOptions({"renormalize", "fixed"})],
        "horizon": [Interval(Integral, 0, None, closed="left"), None],
        "removal_order": [StrOptions({"derivative", "finite"})],
    }

    fitted_: Sequence[FittedTrajectory]

    def __init__(
        self,
        trajectory: Any = None,
        curvature: str = "hessian",
        *,
        removal: str = "renormalize",
        removal_order: str = "derivative",
        horizon: int | None = None,
        output: str | Callable = "auto",
        batch_size: int | None = None,
        max_memory: int | str | None = None,
        verbose: int = 0,
    ):
        self.trajectory = trajectory
        self.curvature = curvature
        self.removal = removal
        self.removal_order = removal_order
        self.horizon = horizon
        self.output = output
        self.batch_size = batch_size
        self.max_memory = max_memory
        self.verbose = verbose

    @abstractmethod
    def _rule(self, trajectory: Trajectory) -> Rule:
        """The step that is differentiated."""

    def _fit(self, task: Task, train: Examples) -> Fitted:
        if self.removal_order == "finite" and self.horizon is not None:
            raise ValueError(
                f"horizon: got {self.horizon} with removal_order='finite', which removes an "
                f"example from all of its batches together and reads the output once, at the end. "
                f"Use "
                "horizon=None, or removal_order='derivative'."
            )
        trajectory = self._find(task)
        if train.weights is not None:
            raise ValueError(
                f"sample_weight: {type(self).__name__} repeats the steps of a recorded run, which "
                f"does not have example weights. Leave it out, or use InfluenceFunction."
            )
        weights = training_weights(task, train)
        replay = Replay(task, trajectory, train, self.train_rows_, weights)
        fitted = FittedTrajectory(self, train, replay, self._rule(trajectory))
        replay.check_end()
        replay.verify(*trajectory.segments()[0])  # wrong data is noticed here
        return fitted

    @property
    def trajectory_(self) -> Trajectory:
        """The recorded run; for several models, see ``fitted_``."""
        return self._only("trajectory_").replay.trajectory

    def _only(self, asked: str) -> FittedTrajectory:
        """What was learned from one model; refuses several."""
        check_is_fitted(self, "fitted_")
        if len(self.fitted_) > 1:
            raise TrajectoryError(
                f"{asked}: several models have several trajectories; fit one model."
            )
        return self.fitted_[0]

    def _find(self, task: Task) -> Trajectory:
        """The given trajectory, or the one that the model's training recorded."""
        given = self.trajectory
        if isinstance(given, (str, os.PathLike)):
            return Trajectory.load(given)
        if given is not None and not isinstance(given, Trajectory):
            given = given.trajectory_
        found = recorded_trajectory(task.estimator) if given is None else given
        if found is None:
            raise TrajectoryError(
                f"model: this {task.name} does not have a recording of its training. Train the "
                f"skorch net "
                "with callbacks=[TrajectoryRecorder()], or a torch module inside "
                "record_trajectory(...) as recorder, and give trajectory=recorder.trajectory_."
            )
        return found

    def _for_each(self, n_models: int) -> list[Self]:
        if self.trajectory is not None:
            raise TrajectoryError(
                f"trajectory: one recording for {n_models} models. Leave it out (fitted skorch "
                "nets bring their own), or fit one attributor for each model."
            )
        return super()._for_each(n_models)

    @with_gradients
    def step_scores(self, X: Any, y: Any = None) -> StepScores:
        """Scores of every occurrence of a training example, step by step.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor, Dataset or DataLoader of n_test examples
        y : array-like of shape (n_test,) or (n_test, n_outputs), default=None

        Returns
        -------
        StepScores
            Steps, rows of X_train, and scores (n_test, n_occurrences), in the order of training.
            Their sum over the occurrences of a row is the row's ``score``.

        Raises
        ------
        TrajectoryError
            After ``fit`` with several models.
        ValueError
            With ``removal_order="finite"``.
        """
        fitted = self._only("step_scores")
        if self.removal_order == "finite":
            raise ValueError(
                "step_scores: removal_order='finite' removes an example from all of its batches "
                "together, so the effects of single steps do not add up. Use "
                "removal_order='derivative'."
            )
        return fitted.step_scores(each(self._queries(X, y))[0])

    @with_gradients
    def taylor_error_proxy(
        self,
        X: Any,
        y: Any = None,
        left_out: Any = None,
        *,
        estimate: str = "second_order",
        chunk_size: int = 32,
    ) -> ErrorProxy:
        """What the derivative misses of removing training examples, along the recorded run.

        No estimate retrains.  All refer to the run's own optimizer, to its end and to the exact
        curvature.  The formulas are derived here; that of the paper [1]_ was not available.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor, Dataset or DataLoader of n_test examples
        y : array-like of shape (n_test,) or (n_test, n_outputs), default=None
        left_out : array-like of int, default=None
            Rows of X_train; None is all rows that the model learned from.
        estimate : {"second_order", "finite", "kinks"}, default="second_order"
            "second_order": removing example j takes its weight from 1 to 0, so that the output f
            loses ``f' - f''/2 + ...``, with derivatives by the weight; ``-f''/2``, exactly.

            "finite": the scores of ``removal_order="finite"`` minus the derivative, the part of the
            error that the optimizer makes.  Added to the scores it is a correction.

            "kinks": the derivative if ReLU had a second derivative by the density of a batch's
            inputs near 0 (normal kernel, 0.01 of each unit's standard deviation), minus the
            derivative.  It is 0 for smooth models.  A flag, not a correction.
        chunk_size : int, default=32
            Number of examples at once, for "second_order".

        Returns
        -------
        ErrorProxy
            Its ``scores`` are the derivatives.

        Raises
        ------
        ValueError
            If the model did not learn from an example, or ``estimate`` is unknown.
        TrajectoryError
            After ``fit`` with several models.

        Notes
        -----
        "second_order" is a flag, not a correction: on short runs with small batches it
        overshoots, and it sees no kinks.  It costs about five training runs for each example,
        ``chunk_size`` of them at once, and the memory of two copies of parameters and optimizer
        state for each example of a chunk.  "kinks" costs two sweeps whatever the examples;
        "finite" a sweep, a replay and, for each example, the optimizer's steps alone.

        References
        ----------
        .. [1] J. Deng, P. Hu, et al. How faithful is trajectory-based data attribution? Error
           sources, remedies, and practical guidelines. 2026, arXiv 2605.18814.
        """
        fitted = self._only("taylor_error_proxy")
        check_choice("estimate", estimate, ("second_order", "finite", "kinks"))
        rows = self.train_rows_ if left_out is None else np.asarray(left_out, dtype=np.int64)
        unknown = np.setdiff1d(rows, self.train_rows_)
        if len(unknown):
            raise ValueError(
                f"left_out: the model did not learn from rows {unknown[:5].tolist()}; accepted "
                "are training rows that were not held out."
            )
        positions = torch.as_tensor(np.searchsorted(self.train_rows_, rows))
        queries = each(self._queries(X, y))[0]
        return ErrorProxy(rows, *fitted.errors(queries, positions, estimate, chunk_size))
