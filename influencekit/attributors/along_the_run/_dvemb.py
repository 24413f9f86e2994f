"""Data value embeddings: SGD's derivative with outer products for the curvature."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from influencekit.attributors.along_the_run._fitted_sweep import FittedSweep, OutputGradients
from influencekit.attributors.along_the_run._recorded_run import (
    RecordedRunAttributor,
    warn_unless_sgd,
)
from influencekit.data._examples import Examples
from influencekit.training.trajectory._replay import Replay, clip_factor
from influencekit.training.trajectory._step_loss import StepLoss
from influencekit.training.trajectory._sweep import StepInfluence

__all__ = ["DVEmb"]


class DVEmb(RecordedRunAttributor):
    """Data value embeddings along a recorded training run.

    Parameters
    ----------
    trajectory : Trajectory, recorder or path-like, default=None
        The recording of the model's training; None uses that of the
        :class:`~influencekit.training.TrajectoryRecorder` in the fitted skorch net.
        A path is a folder that a recorder has written.
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
    SGDInfluence : The same product with the exact Hessian, momentum and weight decay.
    AdamWInfluence : Through the steps of Adam and AdamW.

    Notes
    -----
    The embedding of an example z of step t, with its share c of the step's loss and the outer
    products of the later batches for their Hessians::

        e_t(z) = η_t c ∇l_z(θ_t) - η_t c Σ_{k>t} Σ_{z' in B_k} <∇l_z'(θ_k), ∇l_z(θ_t)> e_k(z')

    and its score ``-<e_t(z), ∇f(θ_T)>``, summed over the steps whose batch holds the example:
    what the output f loses without it, to first order.  Positive marks a proponent.

    Here the same product is carried on the side of the queries, exactly and in ``p`` numbers
    for each (derived)::

        u = ∇f(θ_T);    score_t(z) = -c <∇l_z, η_t u>,    u <- u - Σ_j c_j <∇l_j, η_t u> ∇l_j

    from the last step to the first.  The paper keeps embeddings of projected gradients, and its
    released code the blocks of single layers, to answer queries that come later.

    Plain SGD is assumed: neither momentum nor the steps of Adam nor weight decay are part of it,
    and a clipped step has a smaller η.  A run of Adam is taken with a warning.

    Cost: one replay of the run, and two backward passes of each step for each query of a block.

    References
    ----------
    .. [1] J. T. Wang, D. Song, J. Zou, P. Mittal, R. Jia. Capturing the temporal dependence of
       training data influence. ICLR 2025, arXiv 2412.09538.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from sklearn.datasets import load_iris
    >>> from skorch import NeuralNetClassifier
    >>> from torch import nn
    >>> from influencekit import DVEmb
    >>> from influencekit.training import TrajectoryRecorder
    >>> X, y = load_iris(return_X_y=True)
    >>> X = X.astype(np.float32)
    >>> net = NeuralNetClassifier(nn.Linear, module__in_features=4, module__out_features=3,
    ...     criterion=nn.CrossEntropyLoss, optimizer=torch.optim.SGD, lr=0.01, batch_size=30,
    ...     max_epochs=3, train_split=None, verbose=0, callbacks=[TrajectoryRecorder()]).fit(X, y)
    >>> DVEmb().fit(net, X, y).score(X[:2], y[:2]).shape
    (2, 150)
    """

    def __init__(
        self,
        trajectory: Any = None,
        *,
        output: str | Callable = "auto",
        batch_size: int | None = None,
        max_memory: int | str | None = None,
        verbose: int = 0,
    ):
        self.trajectory = trajectory
        self.output = output
        self.batch_size = batch_size
        self.max_memory = max_memory
        self.verbose = verbose

    def _swept(self, train: Examples, replay: Replay) -> FittedSweep:
        warn_unless_sgd(type(self).__name__, replay.trajectory)

        def sweep(gradients: OutputGradients) -> Iterator[StepInfluence]:
            u = gradients(replay.snapshot(replay.n_steps).theta)
            for start, end in reversed(replay.trajectory.segments()):
                states = replay.states(start, end)
                for step in range(end - 1, start - 1, -1):
                    loss = StepLoss(replay, states.pop().theta, replay.batch(step), "fisher")
                    rate = replay.options(step)["lr"]
                    rate = rate * clip_factor(loss.gradient, replay.max_norm(step))
                    # c_j <∇l_j, η u>, and Σ_j c_j <∇l_j, η u> ∇l_j
                    inner, curved = loss.products(rate * u)
                    yield StepInfluence(step, loss.batch.rows, -inner)
                    u = u - curved

        return FittedSweep(self, train, replay, sweep)
