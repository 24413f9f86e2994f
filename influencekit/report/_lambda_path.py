"""The path over dampings that an attributor brings along."""

from __future__ import annotations

from typing import Any

import numpy as np

from influencekit.curvature import DampingPath
from influencekit.damping._grid import damping_grid
from influencekit.data import Examples, ExamplesList
from influencekit.displays import LambdaPathDisplay
from influencekit.selection import LDSSearch, SurrogateLambdaSearchCV
from influencekit.selection._attributor_search import innermost

__all__ = ["IN_USE", "averaged_over", "path_of", "spread"]

#: Label of the damping of an attributor that is no search over ξ.
IN_USE = "in use"
#: Test examples over which ξ is averaged, where no search has done it.
_N_QUERIES = 100


def spread(n: int, most: int = _N_QUERIES) -> np.ndarray:
    """At most so many of n positions, evenly spread.

    Examples
    --------
    >>> spread(10, 3)
    array([0, 3, 6])
    """
    return np.arange(min(n, most)) * n // min(n, most)


def path_of(attributor: Any, queries: Examples | ExamplesList) -> LambdaPathDisplay | None:
    """Indicator and LDS along the dampings, as far as they are known; not drawn yet.

    Parameters
    ----------
    attributor : fitted attributor
    queries : Examples or ExamplesList
        Test examples, used where the attributor is no search over ξ.

    Returns
    -------
    LambdaPathDisplay or None
        None for a method without a damping, or without eigenvalues.
    """
    if isinstance(attributor, SurrogateLambdaSearchCV):
        return _searched(attributor)
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
    """What the path of :func:`path_of` is a mean over, in words."""
    if isinstance(attributor, SurrogateLambdaSearchCV):
        return "the queries of the search"
    return f"{min(n_test, _N_QUERIES):,} of the test examples"


def _mean_xi(path: DampingPath, dampings: np.ndarray) -> np.ndarray | None:
    """Mean over the test examples for which ξ is defined."""
    xi = path.xi(dampings)
    defined = ~np.isnan(xi).any(axis=0)
    return xi[:, defined].mean(axis=1) if defined.any() else None


def _searched(search: SurrogateLambdaSearchCV) -> LambdaPathDisplay:
    results, criterion = search.cv_results_, search.criterion
    return LambdaPathDisplay(
        results["param_damping"],
        results[f"mean_{criterion}"],
        results[f"std_{criterion}"],
        threshold=search.threshold_,
        best_damping=search.best_params_["damping"] or None,  # 0 has no place on the axis
        indicator="ξ" if criterion == "xi" else criterion,
    )


def _lds_of(attributor: Any) -> dict[str, Any]:
    """LDS of a search's trials, where they differ in the damping alone."""
    if not isinstance(attributor, LDSSearch) or set(attributor.best_params_) != {"damping"}:
        return {}
    trials = [t for t in attributor.study_.trials if t.state.name == "COMPLETE"]
    tried = {t.params["damping"]: t.value for t in trials}
    return {"lds_dampings": list(tried), "lds": list(tried.values())}
