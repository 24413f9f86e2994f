"""LESS: cosines between an output's gradient and the step that an example alone would cause."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from influencekit.attributors.along_the_run._fitted_sweep import FittedSweep, OutputGradients
from influencekit.attributors.along_the_run._recorded_run import RecordedRunAttributor
from influencekit.data._examples import Examples
from influencekit.training.trajectory._replay import Replay, State
from influencekit.training.trajectory._step_loss import StepLoss
from influencekit.training.trajectory._sweep import StepInfluence
from influencekit.training.trajectory.rules._adam import AdamRule
from influencekit.training.trajectory.rules._rule import Rule
from influencekit.training.trajectory.rules._sgd import SGDRule

__all__ = ["LESS"]


class LESS(RecordedRunAttributor):
    """Cosines of Adam's updates and the outputs' gradients along a recorded training run.

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
    AdamWInfluence : Follows each step to the end of the run.
    GradCos : Cosines of gradients at the final model.

    Notes
    -----
    Over the steps whose batch holds the example::

        score = -Σ_t η_t cos(∇f(θ_t), Γ_t),    Γ_t = m̂ / (√v̂ + ε)

    with the moments m and v from before the step, fed with the gradient of the example alone.
    On a run of SGD the update is the gradient.  Where groups of parameters have rates of their own,
    η is their mean over the parameters.  Positive marks a proponent; cosines have no unit, so that
    sums over examples mean nothing.

    The paper takes the checkpoints of some epochs, all examples at each, and projected gradients
    of LoRA weights; here it is each step with its batch, with all parameters (derived).

    Cost: one replay of the run, and at each step the gradient of every query of a block and of
    every row of the batch, which are held together.

    References
    ----------
    .. [1] M. Xia, S. Malladi, S. Gururangan, S. Arora, D. Chen. LESS: Selecting influential data
       for targeted instruction tuning. ICML 2024, arXiv 2402.04333.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from sklearn.datasets import load_iris
    >>> from skorch import NeuralNetClassifier
    >>> from torch import nn
    >>> from influencekit import LESS
    >>> from influencekit.training import TrajectoryRecorder
    >>> X, y = load_iris(return_X_y=True)
    >>> X = X.astype(np.float32)
    >>> net = NeuralNetClassifier(nn.Linear, module__in_features=4, module__out_features=3,
    ...     criterion=nn.CrossEntropyLoss, optimizer=torch.optim.AdamW, lr=0.01, batch_size=30,
    ...     max_epochs=3, train_split=None, verbose=0, callbacks=[TrajectoryRecorder()]).fit(X, y)
    >>> LESS().fit(net, X, y).score(X[:2], y[:2]).shape
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
        rule = replay.rule if isinstance(replay.rule, AdamRule) else SGDRule()

        def sweep(gradients: OutputGradients) -> Iterator[StepInfluence]:
            for start, end in replay.trajectory.segments():
                for step, state in zip(range(start, end), replay.states(start, end), strict=True):
                    batch = replay.batch(step)
                    loss = StepLoss(replay, state.theta, batch, "none")
                    shares = torch.diag_embed(torch.ones_like(batch.shares))
                    updates = _updates(replay, rule, step, state, loss.of_rows(shares))
                    rate = replay.options(step)["lr"]
                    rate = rate.mean() if isinstance(rate, Tensor) else rate
                    cosines = _unit(gradients(state.theta)) @ _unit(updates).T
                    yield StepInfluence(step, batch.rows, -rate * cosines)

        return FittedSweep(self, train, replay, sweep)


def _updates(replay: Replay, rule: Rule, step: int, state: State, own: Tensor) -> Tensor:
    """What each gradient (n, p) alone would make of the optimizer's step, without its rate."""
    options = {**dict.fromkeys(rule.options, 0.0), **replay.options(step)}
    options |= {"lr": 1.0, "weight_decay": 0.0}
    slots = {name: state.slots[name].expand_as(own) for name in rule.slots}
    moved, _ = rule.step(torch.zeros_like(own), slots, own, options, state.n_steps + 1)
    return -moved


def _unit(rows: Tensor) -> Tensor:
    """Rows at length 1; rows of zeros stay."""
    norms = rows.norm(dim=1, keepdim=True)
    return rows / torch.where(norms > 0, norms, 1.0)
