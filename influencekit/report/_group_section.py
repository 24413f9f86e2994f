"""Groups of training examples: what each is predicted to do to the test examples."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from markupsafe import Markup

from influencekit.base import BaseAttributor
from influencekit.displays._group_scores import GroupScoresDisplay
from influencekit.groups._group_attributor import GroupAttributor
from influencekit.report._pictures import draw_svg
from influencekit.report._text import number, plain

__all__ = ["GroupSection", "group_section", "inside_groups"]

#: Most groups on the page.
_MOST_GROUPS = 20


@dataclass(frozen=True)
class GroupSection:
    """Content of the section on groups.

    Attributes
    ----------
    note : str
    picture : Markup or None
        Bars of the groups; None without matplotlib.
    head : list of str
    rows : list of list of str
    """

    note: str
    picture: Markup | None
    head: list[str]
    rows: list[list[str]]


def inside_groups(attributor: BaseAttributor) -> BaseAttributor:
    """The attributor of single examples around which a GroupAttributor is; others as they are.

    Parameters
    ----------
    attributor : fitted attributor

    Returns
    -------
    BaseAttributor

    Raises
    ------
    TypeError
        If groups are scored, and there is no attributor of single examples inside.
    """
    if attributor._grouped is None:
        return attributor
    whole = isinstance(attributor, GroupAttributor) and attributor.curvature != "groups"
    if whole and attributor.property is None:
        return attributor.attributor_
    raise TypeError(
        f"attributor: got {type(attributor).__name__}, whose groups have no scores of single "
        "examples inside. Accepted is a GroupAttributor without property= and curvature='groups', "
        "or an attributor of single examples. To show the groups as well: "
        "evaluation={'groups': GroupScoresDisplay.from_estimator(grouped, X_query)}."
    )


def group_section(attributor: BaseAttributor, X: Any, y: Any) -> GroupSection | None:
    """Scores of the largest groups, in the mean over all test examples.

    Parameters
    ----------
    attributor : fitted attributor
    X, y : array-like
        All test examples.

    Returns
    -------
    GroupSection or None
        None for an attributor of single examples.
    """
    if not isinstance(attributor, GroupAttributor):
        return None
    scores = np.asarray(attributor.score(X, y))
    mean, names = scores.mean(axis=0), attributor.group_names_
    largest = np.argsort(-np.abs(mean), kind="stable")[:_MOST_GROUPS]
    order = largest[np.argsort(-mean[largest], kind="stable")]
    n_shown = "All" if len(order) == len(mean) else f"The {len(order)} largest"
    drawn = find_spec("matplotlib") is not None
    picture = _bars(scores, names, attributor.group_sizes_) if drawn else None
    rows = [
        [plain(names[g]), f"{attributor.group_sizes_[g]:,}", number(mean[g])]
        for g in order.tolist()
    ]
    return GroupSection(
        f"{n_shown} of {len(mean):,} groups, by their mean score over all {len(scores):,} test "
        "examples. Without a group of positive score, the model is predicted to do worse there.",
        picture,
        ["group", "rows", "mean score"],
        rows,
    )


def _bars(scores: np.ndarray, names: np.ndarray, sizes: np.ndarray) -> Markup:
    return draw_svg(
        lambda ax: GroupScoresDisplay.from_predictions(scores, names, sizes=sizes, ax=ax),
        "AttributionReport with bars of groups",
    )
