"""In-Run Data Shapley: what each step does to an output, shared among its batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from numbers import Integral
from typing import Any, ClassVar

from influencekit.attributors.along_the_run._fitted_sweep import FittedSweep, OutputGradients
from influencekit.attributors.along_the_run._recorded_run import (
    RecordedRunAttributor,
    warn_unless_sgd,
)
from influencekit.data._examples import Examples
from influencekit.training.trajectory._replay import Replay, clip_factor
from influencekit.training.trajectory._step_loss import StepLoss
from influencekit.training.trajectory._sweep import StepInfluence
from influencekit.utils.validation import Interval

__all__ = ["InRunShapley"]


class InRunShapley(RecordedRunAttributor):
    """In-Run Data Shapley along a recorded training run.

    Parameters
    ----------
    trajectory : Trajectory, recorder or path-like, default=None
        The recording of the model's training; None uses that of the
        :class:`~influencekit.training.TrajectoryRecorder` in the fitted skorch net.
        A path is a folder that a recorder has written.
    order : {1, 2}, default=1
        Terms of a step's effect on the output.
    output : {"auto", "neg_loss", "margin", "logit", "prediction"} or callable, default="auto"
        Scalar that is explained, higher for a better model.
    batch_size : int or None, default=None
        Test examples of a sweep; None is as many as memory allows.
    max_memory : int, str or None, default=None
        For the gradients of a sweep's test examples; None is 1 GiB.
    verbose : int, default=0

    Attributes
    ----------
    trajectory_ : Trajectory
    train_rows_ : ndarray
        Rows of X_train that the model learned from.

    See Also
    --------
    SGDInfluence : Follows each step to the end of the run.
    TracIn : The first order at some checkpoints.

    Notes
    -----
    A step of SGD changes an output f by ``f(θ_t - η_t Σ_j c_j ∇l_j) - f(θ_t)``, with the shares
    c of the batch's rows.  The Shapley value of a row in that, to first and second order::

        -η_t c_i <∇f(θ_t), ∇l_i>
        -η_t c_i <∇f(θ_t), ∇l_i> + η_t² / 2  c_i ∇l_iᵀ ∇²f(θ_t) Σ_j c_j ∇l_j

    summed over the steps whose batch holds the row.  Positive marks a row whose steps raised f
    (lowered the loss).  The second order adds up to what the steps did to f, up to third order.
    The paper has validation losses for f; its fast way to the inner products is not needed here.

    Nothing is followed beyond its step.  Plain SGD is assumed, as in the paper: neither momentum
    nor the steps of Adam nor weight decay are part of it, and a clipped step has a smaller η.  A
    run of Adam is taken with a warning.  The first order equals
    ``SGDInfluence(horizon=0, curvature="none", removal="fixed")`` on runs of plain SGD.

    Cost: one replay of the run, and at each step a gradient of every query of a block, and with
    ``order=2`` a product with its Hessian.

    References
    ----------
    .. [1] J. T. Wang, P. Mittal, D. Song, R. Jia. Data Shapley in one training run. ICLR 2025,
       arXiv 2406.11011.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from sklearn.datasets import load_iris
    >>> from skorch import NeuralNetClassifier
    >>> from torch import nn
    >>> from influencekit import InRunShapley
    >>> from influencekit.training import TrajectoryRecorder
    >>> X, y = load_iris(return_X_y=True)
    >>> X = X.astype(np.float32)
    >>> net = NeuralNetClassifier(nn.Linear, module__in_features=4, module__out_features=3,
    ...     criterion=nn.CrossEntropyLoss, optimizer=torch.optim.SGD, lr=0.01, batch_size=30,
    ...     max_epochs=3, train_split=None, verbose=0, callbacks=[TrajectoryRecorder()]).fit(X, y)
    >>> InRunShapley().fit(net, X, y).score(X[:2], y[:2]).shape
    (2, 150)
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {
        **RecordedRunAttributor._parameter_constraints,
        "order": [Interval(Integral, 1, 2, closed="both")],
    }

    def __init__(
        self,
        trajectory: Any = None,
        order: int = 1,
        *,
        output: str | Callable = "auto",
        batch_size: int | None = None,
        max_memory: int | str | None = None,
        verbose: int = 0,
    ):
        self.trajectory = trajectory
        self.order = order
        self.output = output
        self.batch_size = batch_size
        self.max_memory = max_memory
        self.verbose = verbose

    def _swept(self, train: Examples, replay: Replay) -> FittedSweep:
        warn_unless_sgd(type(self).__name__, replay.trajectory)

        def sweep(gradients: OutputGradients) -> Iterator[StepInfluence]:
            for start, end in replay.trajectory.segments():
                for step, state in zip(range(start, end), replay.states(start, end), strict=True):
                    loss = StepLoss(replay, state.theta, replay.batch(step), "none")
                    rate = replay.options(step)["lr"]
                    rate = rate * clip_factor(loss.gradient, replay.max_norm(step))
                    u = -rate * gradients(state.theta)
                    if self.order == 2:
                        # η/2 ∇²f η Σ_j c_j ∇l_j
                        u = u + 0.5 * rate * gradients.bent(state.theta, rate * loss.gradient)
                    yield StepInfluence(step, loss.batch.rows, loss.products(u)[0])

        return FittedSweep(self, train, replay, sweep)
