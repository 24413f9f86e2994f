"""Comparison of several attributors with outputs of retrained models."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from influencekit.base import BaseAttributor
from influencekit.groups._holders import refuse_property
from influencekit.metrics._correlation import LDSResult, check_correlation, summarize
from influencekit.metrics._lds import (
    PreparedOutputs,
    leave_one_out_correlation,
    linear_datamodeling_score,
)
from influencekit.selection._ground_truth import check_ground_truth
from influencekit.selection._scorer import SubsetPredictor
from influencekit.training.leave_one_out._result import TrajectoryLeaveOneOut
from influencekit.training.subsets._subset_outputs import SubsetOutputs
from influencekit.utils._optional import import_optional
from influencekit.utils._suggest import did_you_mean
from influencekit.utils._torch import with_gradients

__all__ = ["compare"]


@with_gradients
def compare(
    attributors: Mapping[str, Any],
    ground_truth: SubsetOutputs | TrajectoryLeaveOneOut,
    X_query: Any,
    y_query: Any = None,
    *,
    model: Any = None,
    X: Any = None,
    y: Any = None,
    reference: str | None = None,
    correlation: str = "spearman",
) -> Any:
    """Compare attributors by how well their scores agree with retraining.

    Parameters
    ----------
    attributors : mapping of str to fitted attributor or array-like of shape (n_query, n_train)
        Attributors by name. Arrays are scores that were computed before.
    ground_truth : SubsetOutputs or TrajectoryLeaveOneOut
        From :func:`retrain_on_subsets`: the score is the linear datamodeling score (LDS).
        From :func:`~influencekit.training.trajectory_leave_one_out`: the correlation over the
        rows that were left out.
    X_query, y_query : array-like of shape (n_query, ...) and (n_query,)
        The queries of the ground truth, in its order.
    model, X, y : fitted model and its training data, default=None
        If given, a clone of each attributor is fitted on them, and the time of the fit is measured.
        None uses the attributors as fitted.
    reference : str, default=None
        Name of the attributor that the others are compared with. None is the first one.
    correlation : {"spearman", "pearson"}, default="spearman"

    Returns
    -------
    DataFrame with a row for each name
        ``score``
            Mean correlation over the queries.
        ``standard_error``
            Standard deviation over the queries / √(their number).
        ``difference``
            Mean over the queries of the score minus the score of ``reference``.
        ``difference_error``
            Standard error of that mean.  It is *paired*: the difference is taken query by query,
            so effects that make a query hard for every attributor cancel.
        ``noise_ceiling``
            Correlation that a perfect prediction would have; NaN without repeats.
        ``fit_seconds``, ``score_seconds``
            Wall-clock time; NaN if it was not measured.

    Raises
    ------
    ValueError
        If an attributor explains an output other than the measured one, or shapes do not fit.

    Notes
    -----
    All queries share one model and one set of subsets. The errors therefore measure variation over
    queries, not over subsets or trainings.  A query whose correlation is undefined for one of two
    attributors is left out of their difference.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from influencekit import GradDot, InfluenceFunction, compare, retrain_on_subsets
    >>> X, y = load_iris(return_X_y=True)
    >>> data = X[::2], y[::2], X[1::10], y[1::10]
    >>> model = LogisticRegression(max_iter=1000).fit(*data[:2])
    >>> truth = retrain_on_subsets(model, *data, n_subsets=20, random_state=0)
    >>> attributors = {"influence": InfluenceFunction(), "dot": GradDot()}
    >>> table = compare(attributors, truth, *data[2:], model=model, X=data[0], y=data[1])
    >>> table[["score", "difference"]].round(1)
               score  difference
    influence    1.0         0.0
    dot          0.5        -0.4
    """
    pd = import_optional("pandas", "compare gives its results as a DataFrame and")
    check_correlation(correlation)
    first = _check_names(attributors, reference)
    measured = {}
    for name, given in attributors.items():
        fitted, fit_seconds = _fitted(given, name, model, X, y)
        start = perf_counter()
        result = _result(fitted, name, ground_truth, X_query, y_query, correlation)
        is_timed = isinstance(fitted, BaseAttributor)
        measured[name] = result, fit_seconds, perf_counter() - start if is_timed else np.nan
    base = measured[first][0].per_query
    return pd.DataFrame({name: _row(*found, base) for name, found in measured.items()}).T


def _check_names(attributors: Any, reference: str | None) -> str:
    """Refuse anything but attributors by name; return the name to compare with."""
    if not isinstance(attributors, Mapping) or not attributors:
        raise TypeError(
            f"attributors: got {type(attributors).__name__}; accepted is a dict of at least one "
            f"attributor by name, such as {{'influence': attributor}}."
        )
    names = list(attributors)
    if reference is None:
        return names[0]
    if reference not in names:
        raise ValueError(
            f"reference: got {reference!r}; accepted are the names of the attributors, {names}."
            f"{did_you_mean(reference, names)}"
        )
    return reference


def _fitted(given: Any, name: str, model: Any, X: Any, y: Any) -> tuple[Any, float]:
    """A fitted attributor, or given scores, with the seconds of the fit."""
    if not isinstance(given, BaseAttributor):
        return given, np.nan
    if model is None:
        message = (
            f"attributors[{name!r}]: %(name)s is not fitted. Fit it, or give model, X and y to "
            "have all of them fitted."
        )
        check_is_fitted(given, "fitted_", msg=message)
        return given, np.nan
    start = perf_counter()
    fitted = clone(given).fit(model, X, y)
    return fitted, perf_counter() - start


def _result(
    fitted: Any, name: str, ground_truth: Any, X_query: Any, y_query: Any, correlation: str
) -> LDSResult:
    """Agreement of an attributor, or of its scores, with a ground truth."""
    scored = isinstance(fitted, BaseAttributor)
    if scored:
        refuse_property(fitted, "compare", f"attributors[{name!r}]")
    if isinstance(ground_truth, TrajectoryLeaveOneOut):
        scores = ground_truth.pick(fitted.score(X_query, y_query) if scored else fitted)
        return leave_one_out_correlation(ground_truth.scores, scores, correlation=correlation)
    if not isinstance(ground_truth, SubsetOutputs):
        raise TypeError(
            f"ground_truth: got {type(ground_truth).__name__}; accepted are SubsetOutputs, from "
            "retrain_on_subsets, and TrajectoryLeaveOneOut, from trajectory_leave_one_out."
        )
    if not scored:
        return linear_datamodeling_score(
            ground_truth.outputs, ground_truth.masks, fitted, correlation=correlation
        )
    queries = fitted._queries(X_query, y_query)
    check_ground_truth(ground_truth, fitted, fitted.task_, fitted.n_train_, queries)
    predicted = SubsetPredictor(fitted, queries, ground_truth.masks)()
    return PreparedOutputs(ground_truth.outputs, correlation).score(predicted)


def _row(result: LDSResult, fit_seconds: float, score_seconds: float, base: NDArray) -> dict:
    """A row of the table; ``base`` are the reference's correlations, one for each query."""
    difference = summarize(result.per_query - base, result.correlation)
    ceiling = np.nan if result.noise_ceiling is None else result.noise_ceiling
    return {
        "score": result.mean,
        "standard_error": result.standard_error,
        "difference": difference.mean,
        "difference_error": difference.standard_error,
        "noise_ceiling": ceiling,
        "fit_seconds": fit_seconds,
        "score_seconds": score_seconds,
    }
