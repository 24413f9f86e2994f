"""Measures of the quality of scores, as tables and pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np
from markupsafe import Markup

from influencekit.displays._agreement import AgreementDisplay
from influencekit.metrics._agreement import AgreementResult
from influencekit.metrics._correlation import LDSResult
from influencekit.report._pictures import draw_svg, figure_address
from influencekit.report._text import number, plain
from influencekit.selection._lds_search import LDSSearch

__all__ = ["evaluate"]

_HEAD = ("measure", "value", "standard error", "noise ceiling", "test examples")


@dataclass
class Evaluation:
    """Content of the section on evaluation.

    Attributes
    ----------
    measures : list of tuple of str
        Rows under ``head``.
    agreement : list of tuple of str
        Name, horizon, cosine, Spearman correlation and the ceiling of the cosine.
    curves : Markup or None
        Agreement against the horizon.
    figures : list of tuple of str
        Title and data address.
    """

    head: tuple[str, ...] = _HEAD
    measures: list[tuple[str, ...]] = field(default_factory=list)
    agreement: list[tuple[str, ...]] = field(default_factory=list)
    curves: Markup | None = None
    figures: list[tuple[str, str]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.measures or self.agreement or self.figures)


def evaluate(attributor: Any, evaluation: Mapping[str, Any] | None) -> Evaluation:
    """Sort results into tables and pictures; a search by LDS adds its own results.

    Parameters
    ----------
    attributor : fitted attributor
    evaluation : mapping of str to LDSResult, AgreementResult, float, Figure or display

    Returns
    -------
    Evaluation

    Raises
    ------
    TypeError
        If a result is of another kind.
    """
    if evaluation is not None and not isinstance(evaluation, Mapping):
        raise TypeError(
            f"evaluation: got {type(evaluation).__name__}; accepted is a mapping from names to "
            "results, for instance {'LDS': linear_datamodeling_score(...)}."
        )
    found = Evaluation()
    if isinstance(attributor, LDSSearch):
        name = "LDS (mean) on the queries of the search, on which parameters were tuned"
        found.measures.append(_measure(name, attributor.lds_))
    agreements = {}
    for name, result in (evaluation or {}).items():
        if isinstance(result, AgreementResult):
            agreements[plain(name)] = result
        elif isinstance(result, (LDSResult, Real)):
            found.measures.append(_measure(plain(name), result))
        elif hasattr(figure := getattr(result, "figure_", result), "savefig"):
            found.figures.append((plain(name), figure_address(figure)))
        else:
            raise TypeError(
                f"evaluation: {name!r} is a {type(result).__name__}; accepted are LDSResult, "
                "AgreementResult, a number, a matplotlib Figure, or a display that was drawn."
            )
    if agreements:
        found.agreement = [row for pair in agreements.items() for row in _agreement(*pair)]
        found.curves = _curves(agreements)
    return found


def _measure(name: str, result: Any) -> tuple[str, ...]:
    if isinstance(result, Real):
        return name, number(float(result)), "", "", ""
    ceiling = result.noise_ceiling
    n = len(result.per_query) - result.n_undefined
    return (
        f"{name} ({result.correlation})",
        number(result.mean),
        number(result.standard_error),
        "not known" if ceiling is None else number(ceiling),
        f"{n} of {len(result.per_query)}" if result.n_undefined else str(n),
    )


def _agreement(name: str, result: AgreementResult) -> Iterator[tuple]:
    for i, horizon in enumerate(result.horizons):
        yield (
            name,
            plain(horizon),
            _with_error(result.cosine[i], result.cosine_se[i]),
            _with_error(result.spearman[i], result.spearman_se[i]),
            _ceiling(result, i),
        )


def _ceiling(result: AgreementResult, i: int) -> str:
    if result.halves_disagree[i]:
        return "halves of the seeds disagree"
    ceiling = result.cosine_ceiling[i]
    return "not known" if np.isnan(ceiling) else number(ceiling)


def _with_error(value: float, error: float) -> str:
    return f"{number(value)}\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}{number(error)}"


def _curves(agreements: Mapping[str, AgreementResult]) -> Markup | None:
    """Curves against the horizon, if there are several and matplotlib is installed."""
    if any(len(result.horizons) < 2 for result in agreements.values()):
        return None
    names = {name.replace("$", r"\$"): result for name, result in agreements.items()}
    return draw_svg(
        lambda ax: AgreementDisplay.from_results(names, unit="horizon", ax=ax),
        "AttributionReport with agreement curves",
    )
