"""What all scores along a recorded training run have in common."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Self

from sklearn.utils.validation import check_is_fitted

from influencekit._fitted import GRADIENT_CONSTRAINTS, training_weights
from influencekit.attributors.along_the_run._fitted_sweep import FittedSweep
from influencekit.base import BaseAttributor
from influencekit.data._examples import Examples, each
from influencekit.exceptions import InfluenceKitWarning, TrajectoryError, warn_user
from influencekit.models._task import Task
from influencekit.training._trainer_callbacks import TrainerRecorder
from influencekit.training.trajectory._recorder import (
    PlainRecorder,
    TrajectoryRecorder,
    recorded_trajectory,
)
from influencekit.training.trajectory._replay import Replay
from influencekit.training.trajectory._sweep import StepScores
from influencekit.training.trajectory._trajectory import Trajectory
from influencekit.training.trajectory.rules._sgd import SGDRule
from influencekit.utils._torch import with_gradients

__all__ = ["RecordedRunAttributor", "warn_unless_sgd"]


class RecordedRunAttributor(BaseAttributor):
    """Scores of the examples of a recorded training run, step by step.

    Children say how a step's examples are scored, by :meth:`_swept`.
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {
        **GRADIENT_CONSTRAINTS,
        "trajectory": [
            Trajectory,
            str,
            os.PathLike,
            PlainRecorder,
            TrajectoryRecorder,
            TrainerRecorder,
            None,
        ],
    }

    trajectory: Any
    fitted_: Sequence[FittedSweep]

    @abstractmethod
    def _swept(self, train: Examples, replay: Replay) -> FittedSweep:
        """What scores with the replayed run."""

    def _fit(self, task: Task, train: Examples) -> Any:
        trajectory = self._find(task)
        if train.weights is not None:
            raise ValueError(
                f"sample_weight: {type(self).__name__} repeats the steps of a recorded run, which "
                "does not have example weights. Leave it out, or use InfluenceFunction."
            )
        weights = training_weights(task, train)
        replay = Replay(task, trajectory, train, self.train_rows_, weights)
        fitted = self._swept(train, replay)
        replay.check_end()
        replay.verify(*trajectory.segments()[0])  # wrong data is noticed here
        return fitted

    @property
    def trajectory_(self) -> Trajectory:
        """The recorded run; of several models each has its own, in ``fitted_``."""
        return self._only("trajectory_").replay.trajectory

    def _only(self, asked: str) -> Any:
        """What was learned from one model; refuses several."""
        check_is_fitted(self, "fitted_")
        if len(self.fitted_) > 1:
            raise TrajectoryError(
                f"{asked}: several models have several trajectories; fit one model."
            )
        return self.fitted_[0]

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
                f"model: this {task.name} does not have a recording of its training. Train the "
                "skorch net with callbacks=[TrajectoryRecorder()], or a torch module inside "
                "record_trajectory(...) as recorder, and give trajectory=recorder.trajectory_; "
                "of a Trainer it is the one of its TrainerRecorder."
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
            Summed over the occurrences of a row they are the row's ``score``.

        Raises
        ------
        TrajectoryError
            After ``fit`` with several models.
        """
        fitted = self._only("step_scores")
        return fitted.step_scores(each(self._queries(X, y))[0])


def warn_unless_sgd(name: str, trajectory: Trajectory) -> None:
    """Tell who scores a run of another optimizer as if plain SGD had moved it."""
    if not isinstance(trajectory.rule, SGDRule):
        warn_user(
            f"{name}: the run was trained with {trajectory.optimizer} and is scored as if "
            "SGD had moved it. AdamWInfluence differentiates the steps that were taken.",
            InfluenceKitWarning,
        )
