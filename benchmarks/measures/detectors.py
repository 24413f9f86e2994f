"""Detectors of wrong labels: scores of the rows, the higher the more suspicious."""

from __future__ import annotations

import numpy as np
from sklearn.cluster import MiniBatchKMeans

from benchmarks.measures.private import group_means, normalized_margin
from influencekit.applications import NoisyLabelDetector

#: The size of groups, of the grouped detectors.
GROUP_SIZE = 16
FOLDS = 5
CLEANLAB = ("self_confidence", "normalized_margin", "confidence_weighted_entropy")
PLAIN = {"loss": "loss", "rounds (default)": "rounds", "self_influence": "self_influence",
         "validation_influence": "validation_influence"}  # fmt: skip


def scores(problem, y, seed: int, wanted: list[str] | None) -> dict[str, np.ndarray | str]:
    """Scores by detector, or why there are none."""

    def detector(method: str, **options):
        made = NoisyLabelDetector(
            problem.model, method=method, contamination=0.1, refit=False, random_state=seed,
            **options,
        )  # fmt: skip
        return made.fit(problem.X, y)

    found: dict[str, np.ndarray | str] = {}
    for name, method in PLAIN.items():
        if wanted is None or name in wanted:
            found[name] = detector(method).label_scores_
    if wanted is None:
        held_out = detector("loss", cv=FOLDS)
        found |= _from_probabilities(held_out, y)
        found |= _grouped(problem, y, seed, held_out, found["rounds (default)"])
    return found


def _from_probabilities(held_out, y) -> dict[str, np.ndarray | str]:
    """Rankings that need nothing but out-of-fold probabilities, cleanlab's among them."""
    probabilities = held_out.probabilities_
    found: dict[str, np.ndarray | str] = {"loss out of fold": held_out.label_scores_}
    found["margin out of fold"] = normalized_margin(probabilities, y)
    ways = [{"method": name} for name in CLEANLAB] + [{"adjust_pred_probs": True}]
    for way in ways:
        name = f"cleanlab {way.get('method', 'self_confidence, adjusted')}"
        try:
            from cleanlab.rank import get_label_quality_scores

            ranks = get_label_quality_scores(y, probabilities, **way)
            found[name] = -np.asarray(ranks, dtype=np.float64)
        except ImportError:
            found[name] = "cleanlab is not installed in this environment"
    return found


def _grouped(problem, y, seed, held_out, rounds) -> dict[str, np.ndarray]:
    """Means over groups of rows that are alike."""
    probabilities = held_out.probabilities_
    found = {}
    for by, features in (
        ("inputs", problem.X),
        ("gradients", probabilities - np.eye(probabilities.shape[1])[y]),
    ):
        k = max(2, len(features) // GROUP_SIZE)
        members = MiniBatchKMeans(k, n_init=1, random_state=seed).fit_predict(features)
        found[f"loss out of fold, groups by {by}"] = group_means(held_out.label_scores_, members)
        found[f"rounds, groups by {by}"] = group_means(rounds, members)
    return found
