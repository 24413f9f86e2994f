"""Subsets of whole groups, for attributors that have one score for each group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_random_state

from influencekit.data import each
from influencekit.training._randomness import spawn_generators
from influencekit.training.subsets._subset_outputs import draw_masks

__all__ = ["KeptTogether", "kept_together"]

#: Parameters of a group attributor that decide whether rows of a group may be parted.
_DECIDES = {"curvature", "reduce"}


@dataclass(frozen=True)
class KeptTogether:
    """Rows that subsets must keep together.

    Parameters
    ----------
    grouped : GroupAttributor
        With its partition.
    """

    grouped: Any

    def draw(self, n_subsets: int, fraction: float, random_state: Any) -> np.ndarray:
        """Random subsets of whole groups, bool (n_subsets, n_train).

        Raises
        ------
        ValueError
            If a share of the groups is none or all of them.
        """
        n_groups, labels = self.grouped.n_groups_, self.grouped.labels_
        if not 1 <= round(fraction * n_groups) < n_groups:
            raise ValueError(
                f"subset_fraction: got {fraction} of {n_groups:,} groups, which are kept whole; "
                "accepted is a share that keeps one group or more and leaves one or more out. "
                "Make smaller groups."
            )
        entropy = check_random_state(random_state).randint(2**31 - 1)
        return draw_masks(spawn_generators(entropy, n_subsets), n_groups, fraction)[:, labels]

    def check(self, masks: np.ndarray) -> None:
        """Refuse subsets that part rows of a group."""
        self.grouped._whole_groups(masks)


def kept_together(
    attributor: Any, seeds: dict[str, int], space: Any, task: Any, train: Any
) -> KeptTogether | None:
    """Rows that the subsets of a search must keep together; None where any subset will do.

    Parameters
    ----------
    attributor : attributor
        As the user gave it.
    seeds : dict of str to int
        With which the search fits it, so that its groups are those of the fits.
    space : dict or None
        Searched parameters.
    task : Task or TaskList
    train : Examples or ExamplesList

    Returns
    -------
    KeptTogether or None

    Raises
    ------
    ValueError
        If the search would change the groups over which the subsets are drawn.
    """
    seeded = clone(attributor).set_params(**seeds)
    grouped, prefix = seeded._grouped, ""
    if grouped is None:
        return None
    while seeded is not grouped:
        seeded, prefix = seeded.attributor, f"{prefix}attributor__"
    searched = [name.removeprefix(prefix) for name in space or () if name.startswith(prefix)]
    if grouped._adds_rows and not _DECIDES.intersection(searched):
        return None
    changing = [name for name in searched if name.split("__")[0] == "grouper"]
    if changing:
        raise ValueError(
            f"search_space: {prefix}{changing[0]} changes the groups, over which the subsets are "
            "drawn once. Search other parameters, each grouper by itself."
        )
    grouped._partition(each(task)[0], train, None, train)
    return KeptTogether(grouped)
