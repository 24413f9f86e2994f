"""The section on the damping: a picture, and the same in numbers."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from markupsafe import Markup

from influencekit.displays import LambdaPathDisplay
from influencekit.report._lambda_path import IN_USE
from influencekit.report._pictures import draw_svg
from influencekit.report._text import number, plain

__all__ = ["PathSection", "path_section"]


@dataclass(frozen=True)
class PathSection:
    """What the section holds.

    Attributes
    ----------
    note : str
    picture : Markup or None
        None where matplotlib is not installed.
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
        What its mean was taken over.
    in_use : str
        The attributor's own damping; empty where it has none.

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
    if path.lds is not None:
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
