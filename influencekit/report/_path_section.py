"""The section on the damping: its path, as a picture and in numbers."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from markupsafe import Markup

from influencekit.curvature._spectrum import DampingPath
from influencekit.damping._grid import damping_grid
from influencekit.data._examples import Examples, ExamplesList
from influencekit.displays._lambda_path import LambdaPathDisplay, searched_path
from influencekit.report._pictures import draw_svg
from influencekit.report._text import number, plain
from influencekit.selection._attributor_search import innermost
from influencekit.selection._lds_search import LDSSearch
from influencekit.selection._space import drawn
from influencekit.selection._surrogate import SurrogateLambdaSearchCV

__all__ = ["PathSection", "averaged_over", "path_of", "path_section"]


#: Label of the damping in use, for attributors other than a search over ξ.
IN_USE = "in use"
#: Number of test examples over which ξ is averaged, unless a search has done it.
_N_QUERIES = 100


def spread(n: int, most: int = _N_QUERIES) -> np.ndarray:
    """At most a given number of n positions, evenly spaced.

    Examples
    --------
    >>> spread(10, 3)
    array([0, 3, 6])
    """
    return np.arange(min(n, most)) * n // min(n, most)


def path_of(attributor: Any, queries: Examples | ExamplesList) -> LambdaPathDisplay | None:
    """Indicator and LDS along the dampings, as far as known; not drawn yet.

    Parameters
    ----------
    attributor : fitted attributor
    queries : Examples or ExamplesList
        Test examples, used unless the attributor is a search over ξ.

    Returns
    -------
    LambdaPathDisplay or None
        None for a method without a damping, or without eigenvalues.
    """
    if isinstance(attributor, SurrogateLambdaSearchCV):
        return LambdaPathDisplay(**searched_path(attributor))
    inner = innermost(attributor)
    if not hasattr(inner, "damping_path"):
        return None
    dampings = damping_grid("auto", inner)
    xi = _mean_xi(inner.damping_path(queries.take(spread(queries.n_examples))), dampings)
    if xi is None:
        return None
    in_use = float(np.mean(inner.damping_))
    return LambdaPathDisplay(
        dampings,
        xi,
        threshold=None,
        picks={IN_USE: in_use} if in_use > 0 else None,
        **_lds_of(attributor),
    )


def averaged_over(attributor: Any, n_test: int) -> str:
    """In words: the examples over which :func:`path_of` averages."""
    if isinstance(attributor, SurrogateLambdaSearchCV):
        return "the queries of the search"
    return f"{min(n_test, _N_QUERIES):,} of the test examples"


def _mean_xi(path: DampingPath, dampings: np.ndarray) -> np.ndarray | None:
    """Mean over the test examples for which ξ is defined."""
    xi = path.xi(dampings)
    defined = ~np.isnan(xi).any(axis=0)
    return xi[:, defined].mean(axis=1) if defined.any() else None


def _lds_of(attributor: Any) -> dict[str, Any]:
    """LDS of a search's trials, if they differ only in the damping."""
    if not isinstance(attributor, LDSSearch) or set(attributor.best_params_) != {"damping"}:
        return {}
    trials = [t for t in attributor.study_.trials if t.state.name == "COMPLETE"]
    tried = {drawn(t)["damping"]: t.value for t in trials if drawn(t)["damping"] > 0}
    return {"lds_dampings": list(tried), "lds": list(tried.values())}


@dataclass(frozen=True)
class PathSection:
    """Content of the section.

    Attributes
    ----------
    note : str
    picture : Markup or None
        None if matplotlib is not installed.
    alt : str
    tables : list of tuple
        Caption, heads and rows.
    """

    note: str
    picture: Markup | None
    alt: str
    tables: list[tuple]


_MEANING = {
    "ξ": "rises from small values, where a larger λ makes scores better predictors of retrained "
    "models, to 1, where scores are inner products of gradients",
    "cosine": "compares scores with those at infinite λ, which are inner products of gradients",
}


def path_section(path: LambdaPathDisplay, over: str, in_use: str) -> PathSection:
    """Draw a path and write it out.

    Parameters
    ----------
    path : LambdaPathDisplay
        Drawn or not.
    over : str
        In words: what its mean was taken over.
    in_use : str
        The attributor's own damping; empty if it has none.

    Returns
    -------
    PathSection
    """
    marks = [f"{plain(k)}: λ = {number(v)}" for k, v in path.picks.items() if k != IN_USE]
    marks += [f"in use: λ = {in_use}"] if in_use else []
    note = f"Scores depend on the damping λ. Mean {plain(path.indicator)}, over {over}"
    meaning = _MEANING.get(path.indicator)
    note += f", {meaning}." if meaning else "."
    if path.lds is not None:
        note += " The LDS is the correlation with models retrained on random subsets."
    heads = ("damping λ", f"mean {path.indicator}")
    tables: list[tuple] = [("Mean indicator along λ", heads, _rows(path.dampings, path.mean_xi))]
    if path.lds is not None and path.lds_dampings is not None:
        tables.append(("LDS along λ", ("damping λ", "LDS"), _rows(path.lds_dampings, path.lds)))
    picture = None
    if find_spec("matplotlib") is not None:
        picture = draw_svg(lambda ax: path.plot(ax), "AttributionReport with a λ path")
    low, high = number(path.dampings[0]), number(path.dampings[-1])
    alt = (
        f"Mean {path.indicator} against the damping from {low} to {high}: it runs from "
        f"{number(path.mean_xi[0])} to {number(path.mean_xi[-1])}."
    )
    if marks:
        note += f" Picks: {'; '.join(marks)}."
    return PathSection(note, picture, alt, tables)


def _rows(x: np.ndarray, y: np.ndarray) -> list[tuple[str, ...]]:
    return [(number(a), number(b)) for a, b in zip(x, y, strict=True)]
