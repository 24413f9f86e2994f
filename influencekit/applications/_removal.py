"""Retraining score: how good a model is without the rows that scores select."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.base import is_regressor
from sklearn.utils import check_random_state
from torch import Tensor

from influencekit.groups._labels import encode_labels, group_values
from influencekit.metrics._text import not_finite_text
from influencekit.models._task import Task
from influencekit.models.losses._base import class_positions
from influencekit.training.estimator._rows import count_rows
from influencekit.training.subsets._retrain import Retraining
from influencekit.utils._arguments import real_array
from influencekit.utils._random import draw_seed
from influencekit.utils._suggest import check_choice
from influencekit.utils._torch import with_gradients

__all__ = ["RemovalCurve", "removal_curve"]

#: Directions in which rows are removed.
_WHICH = ("helpful", "harmful")


@dataclass(frozen=True, eq=False)
class RemovalCurve:
    """Outputs of models retrained without the rows that scores select.

    Parameters
    ----------
    fractions : ndarray of shape (n_fractions,)
        Fractions of rows removed.
    curves : dict of str to ndarray of shape (n_fractions, n_repeats)
        Mean output over the queries by name of the scores, a column for each retraining; NaN
        for one that diverged and was kept.
    random : ndarray of shape (n_fractions, n_random * n_repeats)
        The same with random rows removed.
    nothing : ndarray of shape (n_repeats,)
        The same without removal.
    which : {"helpful", "harmful"}
        Which rows were removed first.
    output : str
        Name of the output, the higher the better.

    See Also
    --------
    removal_curve : Computes them.
    influencekit.displays.RemovalCurveDisplay : Draws them.
    """

    fractions: np.ndarray
    curves: dict[str, np.ndarray]
    random: np.ndarray
    nothing: np.ndarray
    which: str = "helpful"
    output: str = "accuracy"

    def means(self) -> dict[str, np.ndarray]:
        """Mean over retrainings, by name.

        Returns
        -------
        dict of str to ndarray of shape (n_fractions,)
            With "random", and "nothing", which is the same at every fraction.
        """
        return {name: values.mean(axis=1) for name, values in self._all().items()}

    def standard_errors(self) -> dict[str, np.ndarray]:
        """Standard errors of the means over retrainings, and over draws for "random".

        Returns
        -------
        dict of str to ndarray of shape (n_fractions,)
            NaN where there was one retraining.  The queries are the same in all of them, so
            the errors do not hold their sampling noise.
        """
        found = {}
        for name, values in self._all().items():
            n = values.shape[1]
            spread = values.std(axis=1, ddof=1) if n > 1 else np.full(len(values), np.nan)
            found[name] = spread / np.sqrt(n)
        return found

    def to_frame(self) -> Any:
        """Table of means and standard errors.

        Returns
        -------
        pandas.DataFrame
            One row for each name and fraction, with columns ``mean`` and ``standard_error``.
        """
        import pandas as pd

        means, errors = self.means(), self.standard_errors()
        keys = [(name, float(f)) for name in means for f in self.fractions]
        index = pd.MultiIndex.from_tuples(keys, names=["removed", "fraction"])
        values = {"mean": np.concatenate(list(means.values()))}
        values["standard_error"] = np.concatenate(list(errors.values()))
        return pd.DataFrame(values, index=index)

    def _all(self) -> dict[str, np.ndarray]:
        same = np.tile(self.nothing, (len(self.fractions), 1))
        return {"nothing": same, "random": self.random, **self.curves}

    def __repr__(self) -> str:
        return (
            f"RemovalCurve(which={self.which!r}, fractions={self.fractions.tolist()}, "
            f"curves={list(self.curves)}, n_repeats={len(self.nothing)}, output={self.output!r}"
            f"{not_finite_text(self.nothing, self.random, *self.curves.values())})"
        )


@with_gradients
def removal_curve(
    model: Any,
    X: Any,
    y: Any,
    X_query: Any,
    y_query: Any,
    scores: Any,
    *,
    fractions: Sequence[float] = (0.1, 0.3, 0.5),
    which: str = "helpful",
    groups: Any = None,
    output: str | Callable = "auto",
    n_random: int = 3,
    sample_weight: Any = None,
    X_fit: Any = None,
    n_repeats: int = 2,
    engine: str = "auto",
    on_nan: str = "raise",
    cache_dir: str | os.PathLike | None = None,
    n_jobs: int | None = None,
    random_state: Any = None,
    verbose: int = 0,
) -> RemovalCurve:
    """Remove the rows that scores call most helpful, or most harmful, and retrain.

    Parameters
    ----------
    model : estimator
        What is trained again; any that :func:`~influencekit.retrain_on_subsets` takes.
    X, y : array-like of n_train rows
    X_query, y_query : array-like of n_query rows
        Where retrained models are evaluated.  Rows whose labels the scores did not see give an
        honest answer.
    scores : array-like, or mapping of name to array-like
        Of shape (n_train,), or (n_test, n_train), which is summed over the first axis; positive
        is helpful.  With ``groups``, (n_groups,) or (n_test, n_groups).
    fractions : sequence of float in (0, 1), default=(0.1, 0.3, 0.5)
        Shares of the rows taken out, by number of rows also where scores are of groups.
    which : {"helpful", "harmful"}, default="helpful"
        Take the highest scores out first, after which a good attribution leaves a bad model;
        or the lowest ones.
    groups : array-like of shape (n_train,), default=None
        Group of each row, where scores are of groups: in the order of the sorted labels.  The
        last group is cut at random to match the number of rows.
    output : "auto", "accuracy", str or callable, default="auto"
        "auto" is "accuracy", the share of right predictions; for regressors "neg_loss".  Otherwise
        as in :func:`~influencekit.retrain_on_subsets`.
    n_random : int, default=3
        Number of draws of random rows.
    sample_weight : array-like of shape (n_train,), default=None
        Weights that the model was fitted with; each retraining uses those of its rows.
    X_fit : array-like of shape (n_train, n_features), default=None
        Data that a Pipeline's last step was fitted on.
    n_repeats : int, default=2
        Number of retrainings of each subset, with different seeds.
    engine : {"auto", "stacked", "joblib"}, default="auto"
        See :func:`~influencekit.retrain_on_subsets`.
    on_nan : {"raise", "keep"}, default="raise"
        Whether a retraining that diverges is refused, with what was taken out and its seed
        named, or its output is NaN, and so are the means that it is part of.
    cache_dir, n_jobs
        See :func:`~influencekit.retrain_on_subsets`.
    random_state : int, RandomState instance or None, default=None
    verbose : int, default=0
        Show progress if above 0.

    Returns
    -------
    RemovalCurve

    Raises
    ------
    ValueError
        If lengths disagree, an argument is not among those accepted, or a retraining diverged.

    Notes
    -----
    Random removal and nothing removed are always part of the result.  With groups of similar rows,
    the helpful direction rewards removing a whole mode of the data at once, whether or not its rows
    were distinguished; a correlation with leave-group-out or the linear datamodeling score does
    not.

    Cost: ``1 + n_fractions · (n_scores + n_random)`` subsets of ``n_repeats`` retrainings.

    References
    ----------
    .. [1] D. Ley, S. Srinivas, S. Zhang, G. Rusak, H. Lakkaraju. Generalized group data
       attribution. arXiv 2410.09940.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from influencekit import InfluenceFunction
    >>> from influencekit.applications import removal_curve
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LogisticRegression(max_iter=1000).fit(X[::2], y[::2])
    >>> scores = InfluenceFunction().fit(model, X[::2], y[::2]).score(X[1::2], y[1::2])
    >>> data = X[::2], y[::2], X[1::2], y[1::2]
    >>> removal_curve(model, *data, {"ggn": scores}, fractions=[0.2], random_state=0)
    RemovalCurve(which='helpful', fractions=[0.2], curves=['ggn'], n_repeats=2, output='accuracy')
    """
    n_train = count_rows(X)
    shares = _checked_fractions(fractions, n_train)
    check_choice("which", which, _WHICH)
    regresses = is_regressor(model)
    if output == "auto":
        output = "neg_loss" if regresses else "accuracy"
    if output == "accuracy" and regresses:
        raise ValueError(
            f"output: 'accuracy' is of classifiers, {type(model).__name__} is a regressor; "
            "accepted are 'auto', 'neg_loss' or a function."
        )
    if not isinstance(n_random, Integral) or n_random < 1:
        raise ValueError(f"n_random: got {n_random!r}; accepted is an int of 1 or more.")
    rng = check_random_state(random_state)
    values = {
        name: _row_values(name, own, groups, n_train)
        for name, own in (scores if isinstance(scores, Mapping) else {"scores": scores}).items()
    }
    if not values or {"random", "nothing"} & set(values):
        raise ValueError(
            f"scores: got the names {list(values)}; accepted are one or more, other than 'random' "
            "and 'nothing', which are always there."
        )
    sign = 1.0 if which == "helpful" else -1.0
    # the second key breaks ties, inside groups too, at random
    orders = [np.lexsort((rng.rand(n_train), -sign * own)) for own in values.values()]
    orders += [rng.permutation(n_train) for _ in range(n_random)]
    masks = np.concatenate([_masks(order, shares) for order in orders])
    masks = np.concatenate([np.ones((1, n_train), dtype=bool), masks])
    names = _subset_names(list(values), n_random, shares, which)
    measured = RightClass() if output == "accuracy" else output
    how = Retraining(
        n_repeats, engine, cache_dir, n_jobs, on_nan, draw_seed(rng), verbose, sample_weight, X_fit
    )
    outputs = how.outputs(model, (X, y, X_query, y_query), masks, names, measured).mean(axis=2)
    parts = outputs[1:].reshape(len(orders), len(shares), -1)
    random = np.concatenate(list(parts[len(values) :]), axis=1)
    curves = dict(zip(values, parts, strict=False))
    name = output if isinstance(output, str) else getattr(output, "__name__", repr(output))
    return RemovalCurve(shares, curves, random, outputs[0], which, name)


class RightClass:
    """One where the class that a model predicts is the label, or all its labels are, else zero."""

    def for_task(self, task: Task) -> Callable:
        """The same of several labels an example, each of which is right or wrong."""
        if not getattr(task.loss, "multilabel", False):
            return self
        # every label, as scikit-learn's score counts
        return lambda z, t: (task.loss.predicted_targets(z) == t).flatten(1).all(1).to(z.dtype)

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Of natural outputs, whose highest is that of the class predicted."""
        one = outputs.shape[-1] == 1
        found = (outputs[..., 0] > 0).long() if one else outputs.argmax(-1)
        labels = class_positions(targets) if found.ndim == 1 else targets.reshape(found.shape)
        return (found == labels).to(outputs.dtype)

    def of_model(self, model: Any, X: Any, y: Any) -> np.ndarray:
        """For an estimator without gradients."""
        labels = np.asarray(y)
        right = np.reshape(model.predict(X), labels.shape) == labels
        return right.reshape(len(labels), -1).all(axis=1)


def _subset_names(names: list[str], n_random: int, shares: np.ndarray, which: str) -> list[str]:
    """What is left out of each subset, for messages."""
    orders = [f"most {which} by {name!r}" for name in names]
    orders += [f"random, draw {draw}" for draw in range(n_random)]
    parts = [f"without {100 * share:.3g} % of the rows ({o})" for o in orders for share in shares]
    return ["all rows", *parts]


def _checked_fractions(fractions: Sequence[float], n_train: int) -> np.ndarray:
    found = np.atleast_1d(real_array("fractions", fractions))
    if found.ndim != 1 or not len(found) or not ((found > 0) & (found < 1)).all():
        raise ValueError(f"fractions: got {fractions!r}; accepted are numbers between 0 and 1.")
    counts = np.round(found * n_train)
    if counts.min() < 1 or counts.max() >= n_train:
        raise ValueError(
            f"fractions: {found.tolist()} of {n_train} rows take out {counts.tolist()}; accepted "
            "are fractions that take out one row or more and leave one."
        )
    return found


def _row_values(name: str, scores: Any, groups: Any, n_train: int) -> np.ndarray:
    """Score of each row, from those of rows or of groups."""
    values = real_array(f"scores[{name!r}]", scores)
    values = values.sum(axis=0) if values.ndim == 2 else values
    member = np.arange(n_train)
    if groups is not None:
        member, labels = encode_labels(group_values(groups, n_train, "groups"))
    expected = n_train if groups is None else len(labels)
    unit = "training row" if groups is None else "group"
    if values.shape != (expected,):
        raise ValueError(
            f"scores[{name!r}]: got shape {np.shape(scores)}; accepted is ({expected},) or "
            f"(n_test, {expected}): one score for each {unit}."
        )
    if not np.isfinite(values).all():
        raise ValueError(f"scores[{name!r}]: hold NaN or infinity; accepted are finite scores.")
    return values[member]


def _masks(order: np.ndarray, fractions: np.ndarray) -> np.ndarray:
    """Rows that stay, (n_fractions, n_train), when the first of an order are taken out."""
    masks = np.ones((len(fractions), len(order)), dtype=bool)
    for mask, fraction in zip(masks, fractions, strict=True):
        mask[order[: round(fraction * len(order))]] = False
    return masks
