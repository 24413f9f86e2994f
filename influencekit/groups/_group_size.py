"""The largest groups whose scores still agree with those of single examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_random_state

from influencekit._fitted import learned_rows
from influencekit.data._examples import make_examples
from influencekit.groups._group_attributor import GroupAttributor
from influencekit.groups._holders import check_held
from influencekit.models._task import Task, as_task
from influencekit.training.estimator._rows import take_rows
from influencekit.utils._arguments import check_integer, check_number
from influencekit.utils._random import draw_seed
from influencekit.utils._suggest import check_choice
from influencekit.utils._torch import with_gradients

__all__ = ["GroupSizes", "choose_group_size"]

#: Groups without which a correlation over them says nothing.
_FEWEST = 5


@dataclass(frozen=True, eq=False)
class GroupSizes:
    """How groups of each size agree with single examples.

    Attributes
    ----------
    group_size : int
        The largest size that reaches the wanted fidelity; 1 if none does.
    sizes : ndarray of int of shape (n_sizes,)
        Ascending.
    fidelity : ndarray of shape (n_sizes,)
        Correlation with point scores, mean over queries.
    """

    group_size: int
    sizes: np.ndarray
    fidelity: np.ndarray

    def __repr__(self) -> str:
        pairs = zip(self.sizes.tolist(), self.fidelity.tolist(), strict=True)
        found = ", ".join(f"{size}: {value:.2f}" for size, value in pairs)
        return f"GroupSizes(group_size={self.group_size}, fidelity={{{found}}})"


@with_gradients
def choose_group_size(
    grouped: GroupAttributor,
    model: Any,
    X: Any,
    y: Any,
    X_query: Any,
    y_query: Any = None,
    *,
    fidelity: float = 0.9,
    group_sizes: Sequence[int] = (4, 16, 64),
    compare: str = "groups",
    n_rows: int | None = 2000,
    random_state: Any = None,
) -> GroupSizes:
    """Measure on some training rows how large groups may be.

    Parameters
    ----------
    grouped : GroupAttributor
        Unfitted, with a grouper that has a ``group_size``.  It is left as it is.
    model : fitted model or Task
    X, y : array-like
        Training data, as given to the model's ``fit``.
    X_query, y_query : array-like
        Rows whose scores are compared.
    fidelity : float, default=0.9
        Least correlation with point scores that is wanted.
    group_sizes : sequence of int, default=(4, 16, 64)
        Mean sizes to try.
    compare : {"groups", "rows"}, default="groups"
        "groups" compares scores of groups with the exact sums of point scores, which is what
        ``curvature="groups"`` gives up.  "rows" compares the equal shares of a group's rows with
        their own point scores: how much of the rows' order groups keep.
    n_rows : int or None, default=2000
        Number of training rows drawn for it; None uses all.
    random_state : int, RandomState instance or None, default=None
        Seed for the rows, and for a grouper without its own seed.

    Returns
    -------
    GroupSizes

    Raises
    ------
    ValueError
        If the grouper has no ``group_size``, a size leaves fewer than five groups, or there
        is nothing to compare.

    Notes
    -----
    Cost: a fit and scores of single examples and of each size, on ``n_rows`` rows.  The fidelity of
    all rows is another one: with more rows there are more groups of a size.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from influencekit import InfluenceFunction
    >>> from influencekit.groups import GroupAttributor, KMeansGrouper, choose_group_size
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LogisticRegression(max_iter=1000).fit(X, y)
    >>> fisher, grouper = InfluenceFunction("fisher"), KMeansGrouper(group_size=4, random_state=0)
    >>> grouped = GroupAttributor(fisher, grouper, curvature="groups")
    >>> choice = choose_group_size(grouped, model, X, y, X[::5], y[::5], group_sizes=(2, 4, 8))
    >>> grouped = grouped.set_params(grouper__group_size=choice.group_size)
    """
    check_number("fidelity", fidelity, -2, 2, "a correlation, from -1 to 1")
    for size in group_sizes:
        check_integer("group_sizes", size, 1)
    _check(grouped, compare)
    rng = check_random_state(random_state)
    task, data = _drawn(model, X, y, n_rows, rng)
    sizes = np.unique(np.asarray(group_sizes, dtype=int))
    if not 1 <= sizes[0] <= sizes[-1] <= len(data[1]) // _FEWEST:
        raise ValueError(
            f"group_sizes: got {sizes.tolist()} for {len(data[1]):,} rows; accepted are sizes from "
            f"1 to {len(data[1]) // _FEWEST}, so that there are {_FEWEST} groups or more."
        )
    asked = (X_query,) if y_query is None else (X_query, y_query)
    points = clone(grouped.attributor).fit(task, *data).score(*asked)
    found = np.empty(len(sizes))
    for i, own in enumerate(_of_sizes(grouped, sizes, draw_seed(rng))):
        scores = own.fit(task, *data).score(*asked)
        found[i] = _agreement(scores, points, own.labels_, compare)
    enough = sizes[found >= fidelity]
    return GroupSizes(int(enough.max(initial=1)), sizes, found)


def _check(grouped: Any, compare: str) -> None:
    """Refuse, before any work, what has no size or nothing to compare."""
    check_choice("compare", compare, ["groups", "rows"])
    if not isinstance(grouped, GroupAttributor):
        raise ValueError(
            f"grouped: got {type(grouped).__name__}; accepted is a GroupAttributor with a grouper "
            "of a group_size, such as KMeansGrouper(group_size=16)."
        )
    check_held(grouped, "choose_group_size", "grouped")
    if "grouper__group_size" not in grouped.get_params():
        raise ValueError(
            f"grouped: its grouper {grouped.grouper!r} has no group_size; accepted are groupers "
            "with one, such as KMeansGrouper(group_size=16) and RandomGrouper(group_size=16)."
        )
    if compare == "groups" and grouped.curvature == "points":
        raise ValueError(
            "compare='groups': with curvature='points' scores of groups are the exact sums at any "
            "size. Take compare='rows', or GroupAttributor(..., curvature='groups')."
        )


def _drawn(model: Any, X: Any, y: Any, n_rows: int | None, rng: Any) -> tuple[Task, tuple]:
    """The model, and some of the rows that it learned from."""
    task = as_task(model)
    rows = learned_rows(task, make_examples(task, X, y))
    if n_rows is not None and n_rows < len(rows):
        rows = np.sort(rng.choice(rows, n_rows, replace=False))
    return replace(task, training_rows=None), (take_rows(X, rows), take_rows(y, rows))


def _of_sizes(grouped: GroupAttributor, sizes: np.ndarray, seed: int) -> list[GroupAttributor]:
    """The attributor with groups of each size, whose scores are sums."""
    options: dict[str, Any] = {"reduce": "sum", "grouper__n_groups": None}
    if grouped.get_params().get("grouper__random_state", seed) is None:
        options["grouper__random_state"] = seed
    return [clone(grouped).set_params(grouper__group_size=int(size), **options) for size in sizes]


def _agreement(scores: np.ndarray, points: np.ndarray, labels: np.ndarray, compare: str) -> float:
    """Mean over queries of the correlation of group scores with point scores."""
    sizes = np.bincount(labels)
    if compare == "groups":
        order = np.argsort(labels, kind="stable")
        starts = np.cumsum(sizes) - sizes
        found, exact = scores, np.add.reduceat(points[:, order], starts, axis=1)
    else:
        found, exact = (scores / sizes)[:, labels], points
    with np.errstate(invalid="ignore", divide="ignore"):
        each = [np.corrcoef(a, b)[0, 1] for a, b in zip(found, exact, strict=True)]
    return float(np.mean(np.nan_to_num(each)))
