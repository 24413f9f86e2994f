"""Checks that retrained outputs are a ground truth for scores of rows or of whole groups."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_random_state

from influencekit.data._examples import each
from influencekit.exceptions import InfluenceKitWarning, warn_user
from influencekit.metrics._text import some_rows
from influencekit.models._outputs import output_name
from influencekit.training._randomness import spawn_generators
from influencekit.training.subsets._subset_outputs import SubsetOutputs, draw_masks

__all__ = [
    "check_ground_truth",
    "check_subset_outputs",
    "draw_whole_groups",
    "explained_output",
    "finite_subsets",
    "kept_together",
]


def explained_output(attributor: Any, default: Any = "auto") -> Any:
    """The ``output`` parameter of an attributor, or of the one that it wraps, if one has it."""
    params = attributor.get_params(deep=True)
    names = sorted((n for n in params if n.split("__")[-1] == "output"), key=len)
    return params[names[0]] if names else default


def check_subset_outputs(subset_outputs: Any) -> None:
    """Refuse anything but SubsetOutputs.

    Raises
    ------
    TypeError
    """
    if not isinstance(subset_outputs, SubsetOutputs):
        raise TypeError(
            f"subset_outputs: got {type(subset_outputs).__name__}; accepted is SubsetOutputs, from "
            "retrain_on_subsets or SubsetOutputs.load, or SubsetOutputs(masks, outputs, seeds)."
        )


def check_ground_truth(
    subset_outputs: Any, attributor: Any, task: Any, n_train: int, queries: Any
) -> None:
    """Refuse outputs for other data, or an output that the attributor does not explain.

    Raises
    ------
    TypeError, ValueError
    """
    check_subset_outputs(subset_outputs)
    got = subset_outputs.masks.shape[1], subset_outputs.outputs.shape[2]
    if got != (n_train, queries.n_examples):
        raise ValueError(
            f"subset_outputs: has {got[0]:,} training rows and {got[1]:,} queries, but X has "
            f"{n_train:,} rows and X_query {queries.n_examples:,}. Both must come from the same "
            f"data."
        )
    has_targets = queries.targets is not None
    given = explained_output(attributor, None)
    if given is None:  # such as RandomBaseline, whose scores fit any output
        return
    measured = output_name(task, subset_outputs.output, has_targets)
    explained = output_name(task, given, has_targets)
    if measured != explained:
        raise ValueError(
            f"subset_outputs: has output={measured!r} of the retrained models, but the "
            f"attributor explains {explained!r}. Retrain with output={explained!r}, or give the "
            f"attributor output={measured!r}."
        )


def finite_subsets(subset_outputs: SubsetOutputs, on_nan: str) -> SubsetOutputs:
    """The subsets whose retrained models all gave finite outputs.

    Parameters
    ----------
    subset_outputs : SubsetOutputs
    on_nan : {"raise", "keep"}
        "raise" refuses all others, "keep" leaves them out with a warning.

    Returns
    -------
    SubsetOutputs

    Raises
    ------
    ValueError
        If there are others and ``on_nan="raise"``.
    """
    bad = np.asarray(subset_outputs.diverged.any(axis=1))
    if not bad.any():
        return subset_outputs
    found = (
        f"{int(bad.sum())} of {bad.size} subsets have outputs that are NaN or infinite (subsets "
        f"{some_rows(np.flatnonzero(bad))}), because training diverged"
    )
    if on_nan == "raise":
        raise ValueError(
            f"subset_outputs: {found}. Retrain with a smaller learning rate, or leave these "
            "subsets out of the search with on_nan='keep'."
        )
    warn_user(f"subset_outputs: {found}; the search leaves them out.", InfluenceKitWarning)
    masks, outputs = subset_outputs.masks[~bad], subset_outputs.outputs[~bad]
    return replace(subset_outputs, masks=masks, outputs=outputs, seeds=subset_outputs.seeds[~bad])


#: Parameters of a group attributor that decide whether the rows of a group may be separated.
_DECIDES = {"curvature", "reduce"}


def draw_whole_groups(
    grouped: Any, n_subsets: int, fraction: float, random_state: Any
) -> np.ndarray:
    """Random subsets of whole groups, bool (n_subsets, n_train).

    Raises
    ------
    ValueError
        If the fraction keeps none or all of the groups.
    """
    n_groups = grouped.n_groups_
    if not 1 <= round(fraction * n_groups) < n_groups:
        raise ValueError(
            f"subset_fraction: got {fraction} of {n_groups:,} groups, which are kept whole; "
            f"accepted is a fraction that keeps at least one group and leaves out at least one. "
            f"Make smaller groups."
        )
    entropy = check_random_state(random_state).randint(2**31 - 1)
    masks = draw_masks(spawn_generators(entropy, n_subsets), n_groups, fraction)
    return masks[:, grouped.labels_]


def kept_together(attributor: Any, seeds: dict[str, int], space: Any, task: Any, train: Any) -> Any:
    """Groups that the subsets of a search must keep whole; None if any subset works.

    Parameters
    ----------
    attributor : attributor
        As the user gave it.
    seeds : dict of str to int
        Seeds with which the search fits it, so that the groups are the same as in the fits.
    space : dict or None
        Searched parameters.
    task : Task or TaskList
    train : Examples or ExamplesList

    Returns
    -------
    GroupAttributor or None
        The attributor, with its partition.

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
            f"search_space: {prefix}{changing[0]} changes the groups, but the subsets are drawn "
            f"only once, over whole groups. Search other parameters, separately for each grouper."
        )
    grouped._partition(each(task)[0], train, None, train)
    return grouped
