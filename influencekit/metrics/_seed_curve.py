"""Agreement with a gold standard of fewer seeds, to see how many seeds are needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from influencekit.metrics._agreement import by_horizon, mean_of_tests, row_cosine
from influencekit.metrics._text import short_array
from influencekit.utils._arguments import check_integer

__all__ = ["SeedCurve", "agreement_by_seeds"]


@dataclass(frozen=True)
class SeedCurve:
    """Cosine against the number of seeds that the gold standard is averaged over.

    Attributes
    ----------
    n_repeats : ndarray of shape (n_sizes,), int64
    n_blocks : ndarray of shape (n_sizes,), int64
        Number of disjoint blocks of that many seeds.
    cosine : dict of str to ndarray of shape (n_sizes, n_horizons)
        Mean over blocks and test examples, by method; NaN if every row is 0.
    """

    n_repeats: NDArray
    n_blocks: NDArray
    cosine: dict[str, NDArray]

    def __repr__(self) -> str:
        best = ", ".join(f"{name!r}: {short_array(y)}" for name, y in self.best().items())
        return f"SeedCurve(n_repeats={short_array(self.n_repeats)}, best={{{best}}})"

    def best(self) -> dict[str, NDArray]:
        """Largest cosine over horizons (n_sizes,), by method."""
        return {name: table.max(axis=1) for name, table in self.cosine.items()}


def agreement_by_seeds(
    gold_of_seeds: Iterable[ArrayLike],
    scores: Mapping[str, ArrayLike],
    *,
    n_repeats: Sequence[int] = (1, 2, 5, 10, 20, 50, 100),
) -> SeedCurve:
    """Cosine of scores with the mean of k seeds of a gold standard, for several k.

    The seeds are divided into disjoint blocks of k. The cosine is computed with each block's mean,
    then averaged over blocks and test examples. Seeds are read once, one at a time; one running sum
    is held for each k.

    Parameters
    ----------
    gold_of_seeds : iterable of array-like of shape (n_test, n_left_out) or \
            (n_horizons, n_test, n_left_out)
        Scores of each seed, such as :meth:`FurtherTraining.iter_seeds` yields.
    scores : mapping of str to array-like of the same shape, or (n_test, n_left_out)
        Scores by name of the method.
    n_repeats : sequence of int, default=(1, 2, 5, 10, 20, 50, 100)
        Sizes of the blocks.  Those above the number of seeds are left out.

    Returns
    -------
    SeedCurve

    Raises
    ------
    ValueError
        If there is no seed, or shapes disagree.
    """
    if not isinstance(scores, Mapping):
        raise TypeError(
            f"`scores`: got {type(scores).__name__}; accepted is a dict of scores by name of the "
            "method, and gold_of_seeds are those of each seed."
        )
    if not len(n_repeats):
        raise ValueError("`n_repeats` must hold integers of 1 or more; got none.")
    for k in n_repeats:
        check_integer("n_repeats", k, 1)
    sizes = sorted({int(k) for k in n_repeats})
    sums: dict[int, NDArray] = {}
    cosines: dict[int, list[dict[str, NDArray]]] = {k: [] for k in sizes}
    tables: dict[str, NDArray] = {}
    seen = 0
    for seen, values in enumerate(gold_of_seeds, 1):
        gold = by_horizon(values, "gold_of_seeds")
        tables = tables or {
            name: by_horizon(own, f"scores[{name!r}]", gold.shape) for name, own in scores.items()
        }
        for k in sizes:
            sums[k] = sums[k] + gold if k in sums else gold
            if seen % k == 0:
                cosines[k].append(
                    {n: mean_of_tests(row_cosine(sums[k], t)) for n, t in tables.items()}
                )
                del sums[k]
    if not seen:
        raise ValueError("`gold_of_seeds` is empty; give the scores of at least one seed.")
    kept = [k for k in sizes if cosines[k]]
    return SeedCurve(
        n_repeats=np.array(kept),
        n_blocks=np.array([len(cosines[k]) for k in kept]),
        cosine={
            name: np.stack([np.mean([c[name] for c in cosines[k]], axis=0) for k in kept])
            for name in tables
        },
    )
