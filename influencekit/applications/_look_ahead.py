"""Rows of each batch chosen by what they do for validation data a few steps later."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch import Tensor
from torch.utils.data import DataLoader

from influencekit.data._examples import make_examples
from influencekit.data._sources import Batch
from influencekit.metrics._text import some_rows
from influencekit.models._task import Task, as_task
from influencekit.training.trajectory._recorder import _clipping, _rows, own_batches
from influencekit.training.trajectory._recording import _names, _snapshot, _switches, numbers_of
from influencekit.training.trajectory._replay import FlatModel, Replay, drops_out
from influencekit.training.trajectory._step_loss import CURVATURES, StepLoss
from influencekit.training.trajectory._sweep import Sweep
from influencekit.training.trajectory._trajectory import Trajectory
from influencekit.utils.validation import Interval, StrOptions, present, validate_parameters

__all__ = ["LookAheadSelector", "mean_loss_gradient"]


class LookAheadWindow:
    """The coming batches of a net that is being trained.

    Parameters
    ----------
    net : NeuralNet
        Initialized, with its optimizer.
    data : tuple (X, y)
        As given to the net's ``fit``.
    validation : tuple (X_val, y_val)
    curvature : {"hessian", "smoothed_hessian", "ggn", "fisher", "none"}
    max_norm : float or None
        Norm to which the net clips gradients.
    """

    def __init__(
        self, net: Any, data: tuple, validation: tuple, curvature: str, max_norm: float | None
    ):
        self.net, self.curvature, self.max_norm = net, curvature, max_norm
        self.task: Task = as_task(net)
        self.train = make_examples(self.task, *data)
        queries = make_examples(self.task, *validation, name="X_val")
        self.n_queries = len(queries)
        self.queries = next(queries.batches(self.n_queries))
        self.names = _names(net.module_, net.optimizer_)

    def open(self, batches: Sequence[np.ndarray], seed: int) -> None:
        """Say which rows the epoch's steps learn from, in order."""
        net, n = self.net, len(batches)
        groups = net.optimizer_.param_groups
        states = None
        if drops_out(net.module_):
            generator = torch.Generator()
            states = tuple(generator.manual_seed(seed + i).get_state() for i in range(n))
        numbers = numbers_of(net.optimizer_)
        trajectory = Trajectory(
            optimizer=type(net.optimizer_).__name__,
            groups=tuple(tuple(self.names[id(p)] for p in g["params"]) for g in groups),
            options={name: np.empty((n, len(values))) for name, values in numbers.items()},
            switches=_switches(net.optimizer_),
            batches=tuple(batches),
            max_norm=np.full(n, np.nan if self.max_norm is None else self.max_norm),
            snapshots={0: _snapshot(net.optimizer_, self.names)},
            n_rows=len(self.train),
            reduction=getattr(net.criterion_, "reduction", "mean"),
            random_states=states,
        )
        rows = np.arange(len(self.train))
        self.replay = Replay(self.task, trajectory, self.train, rows)
        self.sweep = Sweep(self.replay, None, self.curvature, "renormalize")

    def scores(self, first: int, n_scored: int, horizon: int) -> list[np.ndarray]:
        """Scores of the rows of some steps for the mean validation loss after the horizon.

        Steps go on with the epoch's first batch after its last one.

        Parameters
        ----------
        first : int
            Step of the epoch that the net takes next.
        n_scored : int
            Steps whose rows are scored, no more than max(horizon, 1).
        horizon : int

        Returns
        -------
        list of ndarray of shape (batch,)
            Positive where the row lowers the loss.
        """
        replay = self.replay
        self._take_down()
        steps = [(first + i) % replay.n_steps for i in range(max(horizon, 1))]
        states = [replay.snapshot(0)]
        losses = []
        for step in steps:
            losses.append(StepLoss(replay, states[-1].theta, replay.batch(step), self.curvature))
            states.append(replay.advance(states[-1], step, losses[-1].gradient))
        end = states[0] if horizon == 0 else states[-1]
        adjoint = replay.rule.start(mean_loss_gradient(replay.model, self.queries, end.theta))
        found = []
        for i in reversed(range(len(steps))):
            after = states.pop()
            loss = losses.pop()
            adjoint, influence = self.sweep.back(steps[i], loss, states[i], after, adjoint)
            if i < n_scored:
                found.append(influence.values[0].double().cpu().numpy())
        return found[::-1]

    def _take_down(self) -> None:
        """Where the net and its optimizer stand."""
        trajectory, optimizer = self.replay.trajectory, self.net.optimizer_
        trajectory.snapshots[0] = _snapshot(optimizer, self.names)  # type: ignore[index]
        for name, values in numbers_of(optimizer).items():
            trajectory.options[name][:] = values


def mean_loss_gradient(model: FlatModel, batch: Batch, theta: Tensor) -> Tensor:
    """Gradient (1, p) of minus the mean loss of some examples at parameters (p,)."""
    theta = theta.detach().requires_grad_(True)
    outputs = model.outputs(theta, batch.inputs, training=False)
    value = -model.task.loss(outputs, present(batch.targets, "validation targets")).mean()
    return torch.autograd.grad(value, theta)[0][None]


class LookAheadSelector(Callback):
    """skorch callback that keeps the rows of each batch that help validation data soon after.

    Before a step the coming batches are trained on for trial.  The effect of each row of the
    batch on the validation loss at their end is followed back through the optimizer, as
    :class:`~influencekit.AdamWInfluence` does it for a whole run.  Then net and optimizer go on
    from where they were, and the real step learns from the rows with the highest scores.

    Parameters
    ----------
    X_val, y_val : array-like of n_val rows
        Validation data, clean and like the data that the net is meant for.  Not the test data.
    horizon : int, default=4
        Trial steps K.  0 takes the validation gradient where the net stands.
    keep : float in (0, 1] or "helpful", default=0.5
        Share of each batch, rounded up, or the rows with a positive score, at least one.
    every : int, default=1
        Steps scored by one look-ahead, at most max(horizon, 1).  The last of them looks
        ``horizon - every + 1`` steps ahead.  Larger is cheaper.
    curvature : {"hessian", "smoothed_hessian", "ggn", "fisher", "none"}, default="hessian"
        How gradients change along the trial steps.

    Attributes
    ----------
    values_ : ndarray of shape (n,)
        Sum of each row's scores over the run; 0 for held-out rows.
    n_seen_ : ndarray of int of shape (n,)
        Batches that held the row.
    n_kept_ : ndarray of int of shape (n,)
        Steps that learned from it.
    n_gradients_ : int
        Gradients of single rows that were taken for selection and training, a backward pass
        through a gradient counting as two.

    See Also
    --------
    HorizonSearchCV : Chooses the horizon and the learning rate.
    score_then_retrain : The same with the whole run as horizon, and a second training.

    Notes
    -----
    The score of row i of step t is ``-d L_val(theta_{t+K}) / d w_{i,t}``, with the trial steps at
    the present learning rates: positive where the row lowers the validation loss.  The mean over
    a batch renormalizes.  Trial steps do not go beyond the end of training; beyond the end
    of an epoch they take its first batches again, since the next epoch's order is not drawn yet.

    Optimizers, clipping and modules are those that
    :class:`~influencekit.training.TrajectoryRecorder` takes.  Batches must come from a
    DataLoader without worker processes.

    Cost: about ``3 max(horizon, 1) / every`` gradients of a batch for each step, and a gradient of
    all validation data for each look-ahead.

    ``horizon`` and the learning rate belong together: :class:`HorizonSearchCV` searches over both.

    References
    ----------
    .. [1] J. Deng, P. Hu, et al. How faithful is trajectory-based data attribution? Error sources,
       remedies, and practical guidelines. 2026, arXiv 2605.18814.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from sklearn.datasets import load_iris
    >>> from skorch import NeuralNetClassifier
    >>> from torch import nn
    >>> from influencekit.applications import LookAheadSelector
    >>> X, y = load_iris(return_X_y=True)
    >>> X = X.astype(np.float32)
    >>> selector = LookAheadSelector(X[::5], y[::5], horizon=2)
    >>> net = NeuralNetClassifier(nn.Linear, module__in_features=4, module__out_features=3,
    ...     criterion=nn.CrossEntropyLoss, optimizer=torch.optim.AdamW, lr=0.01, batch_size=30,
    ...     max_epochs=3, train_split=None, verbose=0, callbacks=[("look_ahead", selector)])
    >>> net = net.fit(X, y)
    >>> int(dict(net.callbacks_)["look_ahead"].n_kept_.sum())
    225
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {
        "X_val": [object],
        "y_val": [object],
        "horizon": [Interval(Integral, 0, None, closed="left")],
        "keep": [Interval(Real, 0, 1, closed="right"), StrOptions({"helpful"})],
        "every": [Interval(Integral, 1, None, closed="left")],
        "curvature": [StrOptions(set(CURVATURES))],
    }

    def __init__(
        self,
        X_val: Any,
        y_val: Any,
        *,
        horizon: int = 4,
        keep: Any = 0.5,
        every: int = 1,
        curvature: str = "hessian",
    ):
        self.X_val = X_val
        self.y_val = y_val
        self.horizon = horizon
        self.keep = keep
        self.every = every
        self.curvature = curvature

    def _get_param_names(self) -> list[str]:
        return ["X_val", "y_val", "horizon", "keep", "every", "curvature"]  # not all attributes

    def on_train_begin(self, net: NeuralNet, X: Any = None, y: Any = None, **_: Any) -> None:
        validate_parameters(self)
        if self.every > max(self.horizon, 1):
            raise ValueError(
                f"every: got {self.every} with horizon={self.horizon}; accepted are integers up to "
                "max(horizon, 1), since a step must be among the trial steps to be scored."
            )
        self._release(net)
        self._data: Any = (X, y)
        self._window: LookAheadWindow | None = None
        self._epoch = 0
        net.get_iterator = partial(own_batches, type(net).get_iterator, net, self._selecting)

    def on_train_end(self, net: NeuralNet, **_: Any) -> None:
        self._release(net)

    def _release(self, net: NeuralNet) -> None:
        """Leave the net as it was."""
        vars(net).pop("get_iterator", None)
        self._data = self._window = None

    def _selecting(self, net: NeuralNet, dataset: Any, loader: Any) -> _SelectingSampler:
        """What keeps a part of the batches of an epoch that begins."""
        usable = isinstance(loader, DataLoader) and loader.batch_sampler is not None
        if not usable or loader.num_workers:
            raise ValueError(
                f"iterator_train: got {type(loader).__name__} with "
                f"{getattr(loader, 'num_workers', 0)} worker processes; accepted is a torch "
                "DataLoader that makes the batches, with num_workers=0: a batch is chosen when "
                "its turn comes."
            )
        return _SelectingSampler(loader.batch_sampler, net, self._chosen, dataset)

    def _open(self, net: NeuralNet, batches: list[np.ndarray]) -> LookAheadWindow:
        """The window of an epoch that begins."""
        if self._window is None:
            validation = self.X_val, self.y_val
            self._window = LookAheadWindow(
                net, self._data, validation, self.curvature, _clipping(net)
            )
            n = len(self._window.train)
            self.values_, self.n_gradients_ = np.zeros(n), 0
            self.n_seen_, self.n_kept_ = np.zeros(n, np.int64), np.zeros(n, np.int64)
        self._window.open(batches, seed=self._epoch * len(batches))
        return self._window

    def _chosen(self, net: NeuralNet, batches: list[np.ndarray]) -> Iterator[np.ndarray]:
        """Positions within each batch that its step learns from, as the net goes along."""
        window = self._open(net, batches)
        left = max(net.max_epochs - self._epoch, 1) * len(batches)
        self._epoch += 1
        queue: list[np.ndarray] = []
        for step, rows in enumerate(batches):
            if not queue:
                horizon = min(self.horizon, left - step)
                n_scored = min(self.every, len(batches) - step, max(horizon, 1))
                queue = self._look(window, step, n_scored, horizon)
            scores = queue.pop(0)
            self._refuse_diverged(scores, rows)
            kept = self._pick(scores)
            np.add.at(self.values_, rows, scores)
            np.add.at(self.n_seen_, rows, 1)
            np.add.at(self.n_kept_, rows[kept], 1)
            self.n_gradients_ += len(kept)
            yield kept

    def _look(
        self, window: LookAheadWindow, step: int, n_scored: int, horizon: int
    ) -> list[np.ndarray]:
        """Scores of the next steps' rows."""
        n_rows = sum(
            len(window.replay.trajectory.batches[(step + i) % window.replay.n_steps])
            for i in range(max(horizon, 1))
        )
        self.n_gradients_ += 3 * n_rows + window.n_queries
        return window.scores(step, n_scored, horizon)

    def _refuse_diverged(self, scores: np.ndarray, rows: np.ndarray) -> None:
        """Stop a training that diverges: rows cannot be chosen by NaN."""
        unknown = rows[~np.isfinite(scores)]
        if len(unknown):
            raise ValueError(
                f"look-ahead: the scores of {len(unknown)} rows of a batch of epoch {self._epoch} "
                f"are NaN or infinite ({some_rows(unknown)}). The net or its trial steps diverge: "
                "use a smaller learning rate or horizon, or scale the features."
            )

    def _pick(self, scores: np.ndarray) -> np.ndarray:
        """Positions of the scores that are kept, ascending."""
        order = np.argsort(-scores, kind="stable")
        if isinstance(self.keep, str):
            n_kept = max(1, int((scores > 0).sum()))
        else:
            n_kept = int(np.ceil(self.keep * len(scores) - 1e-9))
        return np.sort(order[:n_kept])

    def __getstate__(self) -> dict:
        return {**vars(self), "_data": None, "_window": None}


class _SelectingSampler:
    """A batch sampler that gives a part of each batch, chosen when it is asked for."""

    def __init__(self, sampler: Any, net: NeuralNet, choose: Callable, dataset: Any):
        self.sampler, self.net, self.choose, self.dataset = sampler, net, choose, dataset

    def __iter__(self) -> Iterator[list[int]]:
        positions = [np.asarray(batch, dtype=np.int64) for batch in self.sampler]
        batches = [_rows(self.dataset, own) for own in positions]
        chosen = self.choose(self.net, batches)
        for own, kept in zip(positions, chosen, strict=True):
            yield own[kept].tolist()

    def __len__(self) -> int:
        return len(self.sampler)
