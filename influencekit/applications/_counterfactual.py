"""A fairness gap before and after groups of training rows are removed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from influencekit.applications._fairness_checks import (
    check_groups,
    check_probabilities,
    check_threshold,
    positive_rows,
)
from influencekit.data._inputs import compare_row_labels
from influencekit.data._targets import one_column
from influencekit.groups._labels import group_values, refuse_missing
from influencekit.metrics._text import not_finite_text, short_array
from influencekit.models._estimator_outputs import gives_probabilities
from influencekit.models._outputs import ClassProbability
from influencekit.training.estimator._rows import count_rows
from influencekit.training.subsets._retrain import Retraining
from influencekit.utils._suggest import check_choice, did_you_mean
from influencekit.utils._torch import with_gradients

__all__ = ["GroupCounterfactual", "fairness_gap", "group_counterfactual"]

#: Number of draws of the query rows that show how much an effect depends on them.
N_DRAWS = 100
#: Gaps by name.
GAPS = ("demographic_parity", "equal_opportunity", "equalized_odds", "accuracy")


@dataclass(frozen=True, eq=False)
class GroupCounterfactual:
    """A property of models retrained without groups of rows.

    Parameters
    ----------
    groups : list
        Label of each group taken out.
    sizes : ndarray of int of shape (n_groups,)
        Rows in each.
    full : ndarray of shape (n_repeats,)
        Property of models trained on all rows, a number for each retraining; NaN for one that
        diverged and was kept.
    without : ndarray of shape (n_groups, n_repeats)
        Property of models trained without the group.
    predicted : ndarray of shape (n_groups,) or None
        Predicted ``property(full) - property(without the group)``.
    sampling_errors : ndarray of shape (n_groups,) or None
        Standard error of each effect over which people were asked: spread over 100 draws of the
        query rows with replacement, the same for all models.  None for a gap of your own.
    """

    groups: list
    sizes: np.ndarray
    full: np.ndarray
    without: np.ndarray
    predicted: np.ndarray | None = None
    sampling_errors: np.ndarray | None = None

    def __repr__(self) -> str:
        return (
            f"GroupCounterfactual(n_groups={len(self.groups)}, n_repeats={len(self.full)}, "
            f"full={self.full.mean():.3g}, effects={short_array(self.effects())}"
            f"{not_finite_text(self.full, self.without)})"
        )

    def effects(self) -> np.ndarray:
        """Measured ``property(full) - property(without the group)``, mean over retrainings.

        Returns
        -------
        ndarray of shape (n_groups,)
            Positive where the group raises the property; NaN where a retraining diverged.
        """
        return self.full.mean() - self.without.mean(axis=1)

    def standard_errors(self) -> np.ndarray:
        """Standard error of each effect over retrainings.

        Returns
        -------
        ndarray of shape (n_groups,)
            NaN with one retraining.  The same test rows are asked each time.
        """
        n = len(self.full)
        if n < 2:
            return np.full(len(self.groups), np.nan)
        return np.sqrt((self.full.var(ddof=1) + self.without.var(axis=1, ddof=1)) / n)

    def to_frame(self) -> Any:
        """Table with a row for each group.

        Returns
        -------
        pandas.DataFrame
            Columns ``size``, ``full``, ``without``, ``effect``, ``standard_error``,
            ``sampling_error`` where it is known and, where there are predictions, ``predicted``.
        """
        import pandas as pd

        columns = {
            "size": self.sizes,
            "full": np.full(len(self.groups), self.full.mean()),
            "without": self.without.mean(axis=1),
            "effect": self.effects(),
            "standard_error": self.standard_errors(),
        }
        if self.sampling_errors is not None:
            columns["sampling_error"] = self.sampling_errors
        if self.predicted is not None:
            columns["predicted"] = self.predicted
        return pd.DataFrame(columns, index=pd.Index(self.groups, name="group"))


def fairness_gap(
    probabilities: Any,
    y: Any,
    sensitive: Any,
    gap: str = "demographic_parity",
    *,
    threshold: float | None = None,
    positive: Any = None,
) -> float:
    """Largest difference between groups of people in what a binary classifier says of them.

    Parameters
    ----------
    probabilities : array-like of shape (n,)
        Probability of the positive class.
    y : array-like of shape (n,)
        True class, 0 or 1; others need ``positive``.  Unused for "demographic_parity".
    sensitive : array-like of shape (n,) or (n, n_columns)
        Group of each person; crossings of several columns.
    gap : {"demographic_parity", "equal_opportunity", "equalized_odds", "accuracy"}, \
default="demographic_parity"
        Difference in the mean probability of the positive class; in that mean among positives; the
        larger of those among positives and among negatives; in the mean probability of the true
        class.
    threshold : float or None, default=None
        Probabilities from here on count as 1, others as 0, so that means are rates of positive
        predictions.  None uses the probabilities: smooth in the model, so what gradients can
        predict.
    positive : label, default=None
        Which label in ``y`` is the positive class, where they are not 0 and 1.

    Returns
    -------
    float
        Highest group value minus the lowest, between 0 and 1.

    Raises
    ------
    ValueError
        If shapes disagree, a probability is NaN or outside of [0, 1], a group or true class is
        missing, labels are others than 0 and 1 without ``positive``, there is one group only, or a
        group has no row that counts.

    Examples
    --------
    >>> from influencekit.applications import fairness_gap
    >>> data = [0.9, 0.8, 0.2, 0.6], [1, 1, 0, 1], ["a", "a", "b", "b"]
    >>> round(fairness_gap(*data), 3), fairness_gap(*data, threshold=0.5)
    (0.45, 0.5)
    """
    check_choice("gap", gap, GAPS)
    y = one_column(y)
    shapes = [np.shape(values) for values in (probabilities, y, sensitive)]
    if len(shapes[0]) != 1 or shapes[1] != shapes[0] or shapes[2][:1] != shapes[0]:
        raise ValueError(
            f"probabilities, y, sensitive: got {', '.join(map(str, shapes))}; accepted: one shape."
        )
    check_threshold(threshold)
    compare_row_labels(probabilities=probabilities, y=y, sensitive=sensitive)
    given, groups = check_probabilities(probabilities), check_groups(sensitive, len(y))
    unused = gap == "demographic_parity" and positive is None
    truth = np.asarray(y) if unused else positive_rows(y, positive)
    said = given if threshold is None else (given >= threshold).astype(np.float64)
    everyone = np.ones(len(said), dtype=bool)
    if gap == "demographic_parity":
        return _spread(said, groups, everyone)
    if gap == "accuracy":
        return _spread(np.where(truth == 1, said, 1 - said), groups, everyone)
    found = _spread(said, groups, truth == 1)
    return found if gap == "equal_opportunity" else max(found, _spread(said, groups, truth == 0))


@with_gradients
def group_counterfactual(
    model: Any,
    X: Any,
    y: Any,
    X_query: Any,
    y_query: Any,
    groups: Any,
    *,
    sensitive: Any = None,
    gap: str | Callable = "demographic_parity",
    threshold: float | None = None,
    left_out: Iterable | None = None,
    predicted: Any = None,
    sample_weight: Any = None,
    X_fit: Any = None,
    n_repeats: int = 5,
    engine: str = "auto",
    on_nan: str = "raise",
    cache_dir: str | os.PathLike | None = None,
    n_jobs: int | None = None,
    random_state: Any = None,
    verbose: int = 0,
) -> GroupCounterfactual:
    """Train again without each of several groups and report a fairness gap before and after.

    Parameters
    ----------
    model : binary classifier
        See :func:`~influencekit.retrain_on_subsets`.
    X, y : array-like of n_train rows
    X_query, y_query : array-like of n_query rows
        Where the gap is measured.  Labels are the model's two classes; the larger is positive.
    groups : array-like of shape (n_train,) or (n_train, n_columns)
        Group of each training row; crossings of several columns.
    sensitive : array-like of shape (n_query,) or (n_query, n_columns), default=None
        Group of each person asked, as :func:`fairness_gap` takes it.
    gap : str or callable, default="demographic_parity"
        Of :func:`fairness_gap`, or ``gap(probabilities, y_query, sensitive) -> float``: any
        property of the model.
    threshold : float or None, default=None
        Of :func:`fairness_gap`.
    left_out : iterable of labels, default=None
        Groups to take out, each by itself; None is all of them.
    predicted : mapping of label to float, or array-like of shape (n_groups,), default=None
        Predicted changes, such as a group attributor's scores of the same property:
        ``property(full) - property(without the group)``.  An array follows ``left_out``, or the
        sorted labels of all groups.
    sample_weight : array-like of shape (n_train,), default=None
        Weights that the model was fitted with; each retraining uses those of its rows.
    X_fit : array-like of shape (n_train, n_features), default=None
        Data that a Pipeline's last step was fitted on.
    n_repeats : int, default=5
        Number of retrainings with different seeds, on all rows and without each group.
    engine, on_nan, cache_dir, n_jobs
        See :func:`~influencekit.retrain_on_subsets`.  An error names group and seed.
    random_state : int, RandomState instance or None, default=None
    verbose : int, default=0
        Show progress if above 0.

    Returns
    -------
    GroupCounterfactual

    Raises
    ------
    ValueError
        If shapes disagree, a label is missing, a group is unknown, predictions do not match, a
        retraining diverged, or ``gap`` gives NaN.

    Notes
    -----
    Cost: ``(1 + n_groups) · n_repeats`` retrainings.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from influencekit.applications import group_counterfactual
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 2))
    >>> y = (X[:, 0] + 0.5 * X[:, 1] > 0).astype(int)
    >>> people = np.where(X[:, 1] > 0, "a", "b")
    >>> found = group_counterfactual(
    ...     LogisticRegression(), X, y, X, y, people, sensitive=people, n_repeats=1, random_state=0
    ... )
    >>> found.groups, found.sizes.tolist()
    (['a', 'b'], [97, 103])
    """
    y, y_query = one_column(y), one_column(y_query)
    refuse_missing(y, "y")
    refuse_missing(y_query, "y_query")
    compare_row_labels(X=X, y=y, groups=groups)
    compare_row_labels(X_query=X_query, y_query=y_query, sensitive=sensitive)
    members = group_values(groups, count_rows(X), "groups")
    labels = np.unique(members).tolist()
    chosen = labels if left_out is None else list(left_out)
    unknown = [label for label in chosen if label not in labels]
    if unknown or not chosen:
        raise ValueError(
            f"left_out: got {chosen!r}; accepted are one or more of {labels}."
            f"{did_you_mean(unknown[0] if unknown else None, labels)}"
        )
    if len(np.unique(np.asarray(y))) != 2:
        raise ValueError(
            "y: group_counterfactual measures gaps of binary classifiers; for other properties "
            "use retrain_on_subsets."
        )
    if hasattr(model, "fit") and not gives_probabilities(model):
        raise ValueError(
            f"model: class probabilities are needed, but {type(model).__name__} gives none. "
            "Accepted are classifiers with predict_proba."
        )
    masks = np.array([np.ones(len(members), dtype=bool), *(members != label for label in chosen)])
    probability = ClassProbability(label=np.unique(y)[-1])
    truth = (np.asarray(y_query) == probability.label).astype(int)
    if sensitive is not None:
        sensitive = group_values(sensitive, len(truth), "sensitive")
    asked = truth, np.asarray(y_query), sensitive
    measure = _measure(gap, *asked, threshold)
    names = ["all rows", *(f"without group {label!r}" for label in chosen)]
    how = Retraining(
        n_repeats, engine, cache_dir, n_jobs, on_nan, random_state, verbose, sample_weight, X_fit
    )
    outputs = how.outputs(model, (X, y, X_query, y_query), masks, names, probability)
    found = np.array([[measure(values) for values in repeats] for repeats in outputs])
    sizes, means = (~masks[1:]).sum(axis=1), outputs.mean(axis=1)
    errors = None if callable(gap) else _sampling_errors(gap, asked, threshold, means)
    expected = _aligned(predicted, chosen)
    return GroupCounterfactual(chosen, sizes, found[0], found[1:], expected, errors)


def _sampling_errors(gap: Any, asked: tuple, threshold: Any, values: np.ndarray) -> np.ndarray:
    """Spread of each effect over draws of the query rows; NaN where nothing can be drawn."""
    rng, n, effects = np.random.default_rng(0), len(asked[0]), []
    for _ in range(N_DRAWS):
        rows = rng.integers(n, size=n)
        truth, labels, people = (None if v is None else v[rows] for v in asked)
        try:
            function = _gap_function(gap, truth, labels, people, threshold)
            found = [function(of_model[rows]) for of_model in values]
        except ValueError:  # a group is missing among the rows drawn, or a retraining diverged
            continue
        effects.append(found[0] - np.array(found[1:]))
    enough = len(effects) > N_DRAWS // 2
    return np.std(effects, axis=0) if enough else np.full(len(values) - 1, np.nan)


def _measure(gap: Any, truth: Any, y_query: Any, sensitive: Any, threshold: Any) -> Callable:
    """Property of one retrained model; NaN if it diverged, which only then is an answer."""
    function = _gap_function(gap, truth, y_query, sensitive, threshold)

    def measure(values: np.ndarray) -> float:
        if np.isnan(values).any():
            return float("nan")
        found = function(values)
        if not np.isfinite(found):
            raise ValueError(
                f"gap: the function gave {found} for finite probabilities; accepted is a finite "
                "number. Look at how it treats groups or classes without rows."
            )
        return found

    return measure


def _gap_function(gap: Any, truth: Any, y_query: Any, sensitive: Any, threshold: Any) -> Callable:
    if callable(gap):
        return lambda values: float(gap(values, y_query, sensitive))
    if sensitive is None:
        raise ValueError(
            f"sensitive: got None; gap={gap!r} compares groups of the people asked. Give the group "
            "of each row of X_query."
        )
    fairness_gap(np.zeros(len(truth)), truth, sensitive, gap, threshold=threshold)  # its checks
    return lambda values: fairness_gap(values, truth, sensitive, gap, threshold=threshold)


def _spread(values: np.ndarray, groups: np.ndarray, counted: np.ndarray) -> float:
    """Highest mean of a group minus the lowest, over the rows that count."""
    means = []
    for label in np.unique(groups):
        own = values[(groups == label) & counted]
        if not len(own):
            raise ValueError(
                f"sensitive: the group {str(label)!r} has no row that this gap counts (none with "
                "the label asked for); merge it with another or leave it out."
            )
        means.append(own.mean())
    return float(max(means) - min(means))


def _aligned(predicted: Any, chosen: list) -> np.ndarray | None:
    """Predicted effects in the order of the groups taken out."""
    if predicted is None:
        return None
    if isinstance(predicted, Mapping):
        missing = [label for label in chosen if label not in predicted]
        if missing:
            raise ValueError(f"predicted: has no entry for {missing}; accepted is one a group.")
        predicted = [predicted[label] for label in chosen]
    values = np.asarray(predicted, dtype=np.float64)
    if values.shape != (len(chosen),):
        raise ValueError(
            f"predicted: got shape {values.shape}; accepted is ({len(chosen)},), in the order of "
            "the groups taken out."
        )
    return values
