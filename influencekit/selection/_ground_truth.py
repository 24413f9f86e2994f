"""Whether retrained outputs are the ground truth of an attributor's scores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from influencekit.exceptions import InfluenceKitWarning, warn_user
from influencekit.metrics._text import some_rows
from influencekit.models import output_name
from influencekit.training import SubsetOutputs

__all__ = ["check_ground_truth", "check_subset_outputs", "explained_output", "finite_subsets"]


def explained_output(attributor, default="auto"):
    """The ``output`` parameter of an attributor, or of the one that it wraps, if one has it."""
    params = attributor.get_params(deep=True)
    names = sorted((n for n in params if n.split("__")[-1] == "output"), key=len)
    return params[names[0]] if names else default


def check_subset_outputs(subset_outputs) -> None:
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


def check_ground_truth(subset_outputs, attributor, task, n_train: int, queries) -> None:
    """Refuse outputs of other data or of another output than the attributor explains.

    Raises
    ------
    TypeError, ValueError
    """
    check_subset_outputs(subset_outputs)
    got = subset_outputs.masks.shape[1], subset_outputs.outputs.shape[2]
    if got != (n_train, queries.n_examples):
        raise ValueError(
            f"subset_outputs: holds {got[0]:,} training rows and {got[1]:,} queries, but X has "
            f"{n_train:,} rows and X_query {queries.n_examples:,}. It must come from the same data."
        )
    has_targets = queries.targets is not None
    given = explained_output(attributor, None)
    if given is None:  # Random, say, whose scores are of any output
        return
    measured = output_name(task, subset_outputs.output, has_targets)
    explained = output_name(task, given, has_targets)
    if measured != explained:
        raise ValueError(
            f"subset_outputs: holds output={measured!r} of the retrained models, but the "
            f"attributor explains {explained!r}. Retrain with output={explained!r}, or give the "
            f"attributor output={measured!r}."
        )


def finite_subsets(subset_outputs: SubsetOutputs, on_nan: str) -> SubsetOutputs:
    """The subsets whose retrained models all gave finite outputs.

    Parameters
    ----------
    subset_outputs : SubsetOutputs
    on_nan : {"raise", "keep"}
        "raise" refuses the others, "keep" leaves them out with a warning.

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
        f"{int(bad.sum())} of {bad.size} subsets hold outputs that are NaN or infinite "
        f"(subsets {some_rows(np.flatnonzero(bad))}), since training diverged"
    )
    if on_nan == "raise":
        raise ValueError(
            f"subset_outputs: {found}. Retrain with a smaller learning rate, or leave these "
            "subsets out of the search with on_nan='keep'."
        )
    warn_user(f"subset_outputs: {found}; the search leaves them out.", InfluenceKitWarning)
    masks, outputs = subset_outputs.masks[~bad], subset_outputs.outputs[~bad]
    return replace(subset_outputs, masks=masks, outputs=outputs, seeds=subset_outputs.seeds[~bad])
