"""How well scores of a method say what retraining showed: one row of numbers a cell.

Correlations (Spearman) of outputs with sums of scores, as a mean over queries: ``lds`` with models
of other seeds on halves of the rows, ``run_10`` and ``run_1`` with this run without 10 and 1 % of
the rows, ``groups`` with this run without groups of similar rows; ``single`` (Pearson) without
single rows.  ``wrong_labels`` is the area under the ROC curve of the planted wrong labels, which
should have the lowest mean score over queries; ``copies`` the share of the planted copies of
queries that are among the first ten of their query; ``top_10`` the number of different rows among
the first ten of all queries, as a share of the places.  ``further`` is the correlation with nets
that were trained further on halves of the rows; ``shortcut`` the area under the ROC curve of the
rows that carry a planted shortcut, for queries that have it, as a mean over queries.  ``facts`` is
the share of the texts that state a made-up fact which come first when a language model is asked
for it, among as many as there are, and ``facts_mrr`` the mean reciprocal rank of the first of them.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.atlas.slow import brittleness
from benchmarks.harness import cost_of
from influencekit.datasets._ground_truth import GroundTruth
from influencekit.datasets._truth_language import is_language
from influencekit.metrics import (
    UndefinedCorrelationWarning,
    leave_one_out_correlation,
    linear_datamodeling_score,
    noise_ceiling,
)

Method = Callable[[GroundTruth], np.ndarray]
TOP = 10


class NotForThisModel(Exception):
    """A method says that it cannot explain this kind of model."""


def method_of(place: str) -> Method:
    """The function of ``module:function``."""
    module, _, name = place.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise SystemExit(
            f"--method: {place!r} is not to be had ({error}); give it as module:function, and "
            "PYTHONPATH if the module is elsewhere."
        ) from None
    if not callable(found):
        raise SystemExit(f"--method: {place!r} is no function of a ground truth.")
    return found


def scores_of(method: Method, truth: GroundTruth) -> np.ndarray:
    """What a method returns, checked."""
    scores = np.asarray(method(truth), dtype=np.float64)
    expected = (len(truth.X_query), len(truth.X))
    if scores.shape != expected:
        raise ValueError(f"scores have shape {scores.shape}, a row for each query is {expected}")
    if not np.isfinite(scores).all():
        raise ValueError("scores are not finite")
    return scores


def row_of(
    method: Method, truth: GroundTruth, slow: bool = False, done: dict | None = None
) -> dict:
    """Every measure of a method on one ground truth, with its cost, that is not in ``done``.

    ``slow`` adds the measures that train again.
    """
    row = dict(done or {})
    _ = truth.model, truth.checkpoints  # no cost of the method
    cost, scores = cost_of(lambda: scores_of(method, truth))
    if "lds" not in row:
        row |= {**rows_left_out(truth, scores), **planted_rows(method, truth),
                "top_10": cardinality(scores), **cost}  # fmt: skip
    if truth.further is not None and "further" not in row:
        row |= further_training(truth, scores)
    if len(truth.marked) and "shortcut" not in row:
        shown = truth.shortcut()
        row |= marked_rows(shown, scores_of(method, shown))
    if slow and "fall" not in row:
        row |= brittleness(truth, scores)
    return row


def planted_rows(method: Method, truth: GroundTruth) -> dict:
    """How planted rows are found: facts of a language model, else wrong labels and copies."""
    if is_language(truth.recipe["model"]):
        shown = truth.facts()
        return facts_traced(shown.stated, scores_of(method, shown))
    shown = truth.planted()
    return planted_faults(shown, scores_of(method, shown))


def facts_traced(stated: np.ndarray, scores: np.ndarray) -> dict:
    """Recall of the texts that state an answer, and the reciprocal rank of the first of them."""
    order = np.argsort(-scores, axis=1, kind="stable")
    hits = np.take_along_axis(stated, order, axis=1)
    recall = [own[: own.sum()].mean() for own in hits]
    reciprocal = 1 / (1 + hits.argmax(axis=1))
    found = {}
    for name, each in (("facts", recall), ("facts_mrr", reciprocal)):
        error = np.std(each, ddof=1) / np.sqrt(len(each))
        found |= {name: float(np.mean(each)), f"{name}_error": float(error)}
    return found


def further_training(truth: GroundTruth, scores: np.ndarray) -> dict:
    """Correlation with nets that were trained further on halves of the rows."""
    question = truth.further
    return _summary("further", question.outputs, lambda: linear_datamodeling_score(
        question.outputs, question.masks, scores))  # fmt: skip


def marked_rows(shown: GroundTruth, scores: np.ndarray) -> dict:
    """Area under the ROC curve of each query's scores: marked rows should have the highest."""
    marked = np.zeros(len(shown.X), dtype=bool)
    marked[shown.marked] = True
    areas = np.array([roc_auc_score(marked, own) for own in scores])
    error = areas.std(ddof=1) / np.sqrt(len(areas))
    return {"shortcut": float(areas.mean()), "shortcut_error": float(error)}


def rows_left_out(truth: GroundTruth, scores: np.ndarray) -> dict:
    """Correlations with what models did without some rows, each with its standard error."""
    shares = 1 - truth.without.masks.mean(axis=1)
    found: dict = {}
    for name, question, chosen in (
        ("lds", truth.halves, slice(None)),
        ("run_10", truth.without, shares >= 0.05),
        ("run_1", truth.without, shares < 0.05),
        ("groups", truth.groups, slice(None)),
    ):
        masks, outputs = question.masks[chosen], question.outputs[chosen]
        if not len(masks):  # one of a hundred rows, of fewer than a hundred
            continue
        found |= _summary(name, outputs, lambda masks=masks, outputs=outputs:
                          linear_datamodeling_score(outputs, masks, scores))  # fmt: skip
    found |= _summary("single", truth.changes.T, lambda: leave_one_out_correlation(
        truth.changes, scores, left_out=truth.left_out))  # fmt: skip
    several = truth.halves.outputs.shape[1] > 1
    ceiling = noise_ceiling(truth.halves.outputs).attainable_correlation if several else 1.0
    return {**found, "ceiling": ceiling, "lds_over_ceiling": found["lds"] / ceiling}


def _summary(name: str, outputs: np.ndarray, measure: Callable) -> dict:
    """Mean over queries and its error; a query whose scores are all equal counts as 0."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedCorrelationWarning)
        found = measure().per_query
    varies = np.ptp(outputs.reshape(len(outputs), -1, len(found)).mean(axis=1), axis=0) > 0
    values = np.where(np.isnan(found), 0.0, found)[varies]
    error = values.std(ddof=1) / np.sqrt(len(values))
    return {name: float(values.mean()), f"{name}_error": float(error)}


def planted_faults(planted: GroundTruth, scores: np.ndarray) -> dict:
    """How wrong labels and copies of queries are found."""
    wrong = np.zeros(len(planted.X), dtype=bool)
    wrong[planted.flipped] = True
    area = float(roc_auc_score(wrong, -scores.mean(axis=0)))
    positive, negative = wrong.sum(), (~wrong).sum()
    ranks = np.argsort(-scores, axis=1, kind="stable")[:, :TOP]
    hits = [row in ranks[query]
            for row, query in zip(planted.copied, planted.copied_queries, strict=True)]  # fmt: skip
    return {"wrong_labels": area, "wrong_labels_error": _error_of_area(area, positive, negative),
            "copies": float(np.mean(hits)),
            "copies_error": float(np.std(hits) / np.sqrt(len(hits)))}  # fmt: skip


def _error_of_area(area: float, positive: int, negative: int) -> float:
    """Standard error of an area under the ROC curve, of Hanley and McNeil."""
    first, second = area / (2 - area), 2 * area**2 / (1 + area)
    variance = (area * (1 - area) + (positive - 1) * (first - area**2)
                + (negative - 1) * (second - area**2)) / (positive * negative)  # fmt: skip
    return float(np.sqrt(max(variance, 0.0)))


def cardinality(scores: np.ndarray) -> float:
    """Different rows among the first ten of all queries, over the places there are."""
    ranks = np.argsort(-scores, axis=1, kind="stable")[:, :TOP]
    return float(len(np.unique(ranks)) / min(ranks.size, scores.shape[1]))
