"""What SGD-influence and AdamW-influence share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import torch

from influencekit.attributors.along_the_run._fitted_trajectory import FittedTrajectory
from influencekit.attributors.along_the_run._recorded_run import RecordedRunAttributor
from influencekit.data._examples import Examples, each
from influencekit.models._task import Task
from influencekit.training.trajectory._error_proxy import ErrorProxy
from influencekit.training.trajectory._replay import Replay
from influencekit.training.trajectory._step_loss import CURVATURES
from influencekit.training.trajectory._sweep import StepScores
from influencekit.training.trajectory._trajectory import Trajectory
from influencekit.training.trajectory.rules._rule import Rule
from influencekit.utils._suggest import check_choice
from influencekit.utils._torch import with_gradients
from influencekit.utils.validation import Interval, StrOptions

__all__ = ["TrajectoryInfluence"]


class TrajectoryInfluence(RecordedRunAttributor):
    """Derivative of an output by the weights of training examples, through the whole training.

    Children say which step of an optimizer is differentiated.
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {
        **RecordedRunAttributor._parameter_constraints,
        "curvature": [StrOptions({"auto", *CURVATURES})],
        "removal": [StrOptions({"renormalize", "fixed"})],
        "rows": [StrOptions({"batch", "all"})],
        "horizon": [Interval(Integral, 0, None, closed="left"), None],
        "removal_order": [StrOptions({"derivative", "finite"})],
        "mask_size": [Interval(Integral, 1, None, closed="left"), None],
        "n_masks": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        trajectory: Any = None,
        curvature: str = "auto",
        *,
        removal: str = "renormalize",
        removal_order: str = "derivative",
        rows: str = "batch",
        horizon: int | None = None,
        mask_size: int | None = None,
        n_masks: int = 10,
        output: str | Callable = "auto",
        batch_size: int | None = None,
        max_memory: int | str | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.trajectory = trajectory
        self.curvature = curvature
        self.removal = removal
        self.removal_order = removal_order
        self.rows = rows
        self.horizon = horizon
        self.mask_size = mask_size
        self.n_masks = n_masks
        self.output = output
        self.batch_size = batch_size
        self.max_memory = max_memory
        self.random_state = random_state
        self.verbose = verbose

    @abstractmethod
    def _rule(self, trajectory: Trajectory) -> Rule:
        """The step that is differentiated."""

    def _fit(self, task: Task, train: Examples) -> FittedTrajectory:
        if self.removal_order == "finite" and self.horizon is not None:
            raise ValueError(
                f"horizon: got {self.horizon} with removal_order='finite', which removes an "
                f"example from all of its batches together and reads the output once, at the end. "
                f"Use "
                "horizon=None, or removal_order='derivative'."
            )
        if self.removal_order == "finite" and self.mask_size is not None:
            raise ValueError(
                f"mask_size: got {self.mask_size} with removal_order='finite', which repeats the "
                "optimizer's steps in all coordinates. Use mask_size=None, or "
                "removal_order='derivative'."
            )
        if self.removal_order == "finite":
            self._needs_batches("removal_order='finite'")
        if self.mask_size is not None:
            self._needs_batches("mask_size")
        fitted = super()._fit(task, train)
        if self.curvature == "auto":
            fitted.choose()
        return fitted

    @property
    def curvature_(self) -> str:
        """The form of the curvature that is used; of several models each has its own."""
        return self._only("curvature_").form.curvature

    @property
    def smoothing_(self) -> float | None:
        """Width of "smoothed_hessian" at kinks, None with another form."""
        form = self._only("smoothing_").form
        return form.smoothing if form.curvature == "smoothed_hessian" else None

    @property
    @with_gradients
    def expected_lds_(self) -> dict[float, float]:
        """Estimated LDS of the scores against reruns, by the share of rows that they leave out."""
        self._needs_batches("expected_lds_")
        return self._only("expected_lds_").expected_lds()

    def _needs_batches(self, asked: str) -> None:
        """Refuse what is only known of the rows of the batches."""
        if self.rows != "batch":
            raise ValueError(
                f"rows: got {self.rows!r} with {asked}, which is about the batches that a row was "
                "in. Use rows='batch'."
            )

    def _swept(self, train: Examples, replay: Replay) -> FittedTrajectory:
        return FittedTrajectory(self, train, replay, self._rule(replay.trajectory))

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
        self._only("step_scores")
        self._needs_batches("step_scores")
        if self.removal_order == "finite":
            raise ValueError(
                "step_scores: removal_order='finite' removes an example from all of its batches "
                "together, so the effects of single steps do not add up. Use "
                "removal_order='derivative'."
            )
        return super().step_scores(X, y)

    @with_gradients
    def taylor_error_proxy(
        self,
        X: Any,
        y: Any = None,
        left_out: Any = None,
        *,
        estimate: str = "auto",
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
            Rows of X_train; None is all that the model learned from.
        estimate : {"auto", "second_order", "finite", "kinks"}, default="auto"
            "auto": "second_order" for a smooth net.  For a net with kinks (ReLU, leaky ReLU) the
            sizes of "finite" and of twice "kinks" together, without sign.

            "second_order": removing example j takes its weight from 1 to 0, so that the output f
            loses ``f' - f''/2 + ...``, with derivatives by the weight; ``-f''/2``, exactly.

            "finite": the scores of ``removal_order="finite"`` minus the derivative, the part of the
            error that the optimizer makes.  Added to the scores it is a correction.

            "kinks": the scores of ``curvature="smoothed_hessian"`` minus the derivative: what ReLU
            units switch on average.  It is 0 for smooth nets.
        chunk_size : int, default=32
            Number of examples at once, for "second_order".

        Returns
        -------
        ErrorProxy
            Its ``scores`` are the derivatives, its ``median`` is the error of the run's scores as
            estimated, and ``reliable`` says whether that can be believed.

        Raises
        ------
        ValueError
            If the model did not learn from an example, or ``estimate`` is unknown.
        TrajectoryError
            After ``fit`` with several models.

        Notes
        -----
        "second_order" sees no kinks.  It costs about five training runs for each example,
        ``chunk_size`` of them at once, and the memory of two copies of parameters and optimizer
        state for each example of a chunk.  "kinks" costs two sweeps whatever the examples;
        "finite" a sweep, a replay and, for each example, the optimizer's steps alone.

        A unit that switches in one rerun adds chance to what units switch on average.  The factor
        of 2 stands for it, and was measured; ``docs/trajectories_measured.md`` has how well
        the estimate meets reruns.  Other kinks (max pooling, bounded activations) are seen by no
        estimate: then ``unseen`` names them and the proxy is not ``reliable``.

        References
        ----------
        .. [1] J. Deng, P. Hu, et al. How faithful is trajectory-based data attribution? Error
           sources, remedies, and practical guidelines. 2026, arXiv 2605.18814.
        """
        fitted = self._only("taylor_error_proxy")
        self._needs_batches("taylor_error_proxy")
        check_choice("estimate", estimate, ("auto", "second_order", "finite", "kinks"))
        rows = self.train_rows_ if left_out is None else np.asarray(left_out, dtype=np.int64)
        unknown = np.setdiff1d(rows, self.train_rows_)
        if len(unknown):
            raise ValueError(
                f"left_out: the model did not learn from rows {unknown[:5].tolist()}; accepted "
                "are training rows that were not held out."
            )
        positions = torch.as_tensor(np.searchsorted(self.train_rows_, rows))
        queries = each(self._queries(X, y))[0]
        return ErrorProxy(rows, *fitted.proxy(queries, positions, estimate, chunk_size))
