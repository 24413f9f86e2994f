"""One training to score all rows, a second one on those that helped."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import clone, is_classifier
from sklearn.pipeline import Pipeline
from skorch import NeuralNet

from influencekit.applications._fitting import checked_labels, refuse_diverged
from influencekit.applications._look_ahead import mean_loss_gradient
from influencekit.data._examples import make_examples
from influencekit.data._targets import one_column
from influencekit.exceptions import InfluenceKitWarning, warn_user
from influencekit.metrics._text import some_rows
from influencekit.models._task import as_task
from influencekit.training._diverged import check_on_nan
from influencekit.training._randomness import seeded
from influencekit.training.estimator._recipe import device_of
from influencekit.training.estimator._rows import count_rows, take_rows
from influencekit.training.trajectory._recorder import TrajectoryRecorder, recorded_trajectory
from influencekit.training.trajectory._replay import Replay
from influencekit.training.trajectory._step_loss import CURVATURES
from influencekit.training.trajectory._sweep import Sweep
from influencekit.utils._long_work import progress
from influencekit.utils._random import draw_seed
from influencekit.utils._suggest import check_choice
from influencekit.utils._torch import with_gradients
from influencekit.utils.validation import present

__all__ = ["RetrainedOnHelpful", "score_then_retrain"]


@dataclass(frozen=True, eq=False)
class RetrainedOnHelpful:
    """What :func:`score_then_retrain` gives.

    Attributes
    ----------
    estimator : estimator
        Fitted on the rows that were kept.
    values : ndarray of shape (n,)
        Effect of each row on the mean validation loss of the first training; positive where
        it lowers the loss.
    rows : ndarray of int of shape (n_kept,)
        Ascending.
    """

    estimator: Any
    values: NDArray
    rows: NDArray

    def __repr__(self) -> str:
        name = type(self.estimator).__name__
        return f"RetrainedOnHelpful({name}, kept={len(self.rows)} of {len(self.values)})"


@with_gradients
def score_then_retrain(
    estimator: Any,
    X: Any,
    y: Any,
    X_val: Any,
    y_val: Any,
    *,
    horizon: int | None = None,
    keep: float | str = 0.5,
    stratify: bool = True,
    curvature: str = "hessian",
    on_nan: str = "raise",
    random_state: Any = None,
    verbose: int = 0,
) -> RetrainedOnHelpful:
    """Train and record a net, score its rows against validation data, train on the best of them.

    The offline form of :class:`LookAheadSelector`.

    Parameters
    ----------
    estimator : skorch net, or Pipeline that ends in one
        Unfitted.  It is cloned, never changed.
    X, y : array-like of n rows
    X_val, y_val : array-like of n_val rows
        Validation data, clean and like the data that the net is meant for.  Not the test data.
    horizon : int or None, default=None
        Steps after which the validation loss is read; None is the end of training.
    keep : float in (0, 1] or "helpful", default=0.5
        Share of the rows that the net learned from, or those with a positive value.
    stratify : bool, default=True
        Keep the same share of every class, for classifiers.  Otherwise values decide, and the
        classes that the first training overrates may vanish.  "helpful" is not stratified.
    curvature : {"hessian", "smoothed_hessian", "ggn", "fisher", "none"}, default="hessian"
    on_nan : {"raise", "keep"}, default="raise"
        Whether a second training that diverges is refused, or its net is kept with the values,
        with a warning.  A first one that diverges has no values and is always refused.
    random_state : int, RandomState instance or None, default=None
        Seed for both trainings, which start with the same weights.
    verbose : int, default=0

    Returns
    -------
    RetrainedOnHelpful

    Raises
    ------
    ValueError
        If an argument is out of range, a training diverged, a value is not finite, or no row has
        a positive value.
    TypeError
        If the estimator is not a skorch net.

    Notes
    -----
    A row's value is what :class:`~influencekit.AdamWInfluence` (for SGD
    :class:`~influencekit.SGDInfluence`), with ``curvature="hessian"``, scores it for the validation
    data, on average.  It speaks of the run's own order of batches; repeat with other seeds where it
    matters.  There is no ``sample_weight``: a skorch net takes none, and a loss that reads weights
    from the inputs is refused.

    Cost: two trainings, a replay of the first, and a backward sweep of about two more.
    """
    _check(horizon, keep, curvature)
    check_on_nan(on_nan)
    classifier = is_classifier(estimator)
    y, y_val = checked_labels(X, y, classifier), one_column(y_val)
    net = estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator
    if not isinstance(net, NeuralNet):
        raise TypeError(
            f"estimator: got {type(net).__name__}; accepted is a skorch net, or a Pipeline "
            "that ends in one, since its training must be recorded. DatasetPruner leaves out rows "
            "for other estimators, and removal_curve shows what models are without them."
        )
    seed = draw_seed(random_state)
    recorder = TrajectoryRecorder()
    first = _fit(_with_callback(estimator, recorder), X, y, seed)
    refuse_diverged(first, X, f"on all {count_rows(X):,} rows under seed {seed}")
    trajectory = present(recorded_trajectory(first), "recorded training")
    values = _values(first, (X, y), (X_val, y_val), curvature, horizon, verbose)
    _refuse_values(values)
    learned = np.unique(np.concatenate(trajectory.batches))
    groups = np.asarray(y) if stratify and classifier else np.zeros(len(values))
    rows = _best(values, learned, keep, groups)
    X_kept = take_rows(X, rows)
    second = _fit(clone(estimator), X_kept, take_rows(y, rows), seed)
    _look_at(second, X_kept, f"on the {len(rows):,} rows that were kept, under seed {seed}", on_nan)
    return RetrainedOnHelpful(second, values, rows)


def _refuse_values(values: NDArray) -> None:
    unknown = np.flatnonzero(~np.isfinite(values))
    if len(unknown):
        raise ValueError(
            f"estimator: the values of {len(unknown):,} rows are NaN or infinite "
            f"({some_rows(unknown)}). The first training is close to diverging: use a smaller "
            "learning rate or scale the features."
        )


def _look_at(model: Any, X: Any, which: str, on_nan: str) -> None:
    """Refuse the second training if it diverged, or warn."""
    try:
        refuse_diverged(model, X, which)
    except ValueError as error:
        if on_nan == "raise":
            raise
        warn_user(f"on_nan='keep': {error}", InfluenceKitWarning)


def _check(horizon: Any, keep: Any, curvature: Any) -> None:
    check_choice("curvature", curvature, CURVATURES)
    whole = isinstance(horizon, Integral) and not isinstance(horizon, bool)
    if horizon is not None and (not whole or horizon < 0):
        raise ValueError(f"horizon: got {horizon!r}; accepted is an integer >= 0 or None.")
    share = isinstance(keep, Real) and not isinstance(keep, bool) and 0 < float(keep) <= 1
    if not share and keep != "helpful":
        raise ValueError(f"keep: got {keep!r}; accepted are 'helpful' and numbers in (0, 1].")


def _with_callback(estimator: Any, recorder: TrajectoryRecorder) -> Any:
    """A clone whose net also records."""
    copy = clone(estimator)
    net = copy.steps[-1][1] if isinstance(copy, Pipeline) else copy
    net.set_params(callbacks=[*(net.callbacks or []), ("influencekit_recorder", recorder)])
    return copy


def _fit(estimator: Any, X: Any, y: Any, seed: int) -> Any:
    with seeded(seed, device_of(estimator)):
        return estimator.fit(X, y)


def _values(
    model: Any, data: tuple, validation: tuple, curvature: str, horizon: int | None, verbose: int
) -> NDArray:
    """Effect (n,) of each row on minus the mean validation loss, in one sweep."""
    task = as_task(model)
    train = make_examples(task, *data)
    queries = make_examples(task, *validation, name="X_val")
    batch = next(queries.batches(len(queries)))
    trajectory = present(recorded_trajectory(model), "recorded training")
    replay = Replay(task, trajectory, train, np.arange(len(train)))
    replay.check_end()
    sweep = Sweep(replay, None, curvature, "renormalize", horizon)
    values = torch.zeros(len(train), dtype=torch.float64)
    steps = sweep(lambda theta: mean_loss_gradient(replay.model, batch, theta))
    for step in progress(steps, "sweep", verbose, unit="step", total=replay.n_steps):
        values.index_add_(0, step.rows.cpu(), step.values[0].double().cpu())
    return values.numpy()


def _best(values: NDArray, learned: NDArray, keep: float | str, groups: NDArray) -> NDArray:
    """Rows of the highest values of each group that the net learned from, ascending."""
    if isinstance(keep, str):
        kept = learned[values[learned] > 0]
        if not len(kept):
            raise ValueError(
                "keep='helpful': none of the rows has a positive value. Give keep a fraction of "
                "the rows."
            )
        return kept
    best = []
    for group in np.unique(groups[learned]):
        own = learned[groups[learned] == group]
        n_kept = int(np.ceil(keep * len(own) - 1e-9))
        best.append(own[np.argsort(-values[own], kind="stable")[:n_kept]])
    return np.sort(np.concatenate(best))
