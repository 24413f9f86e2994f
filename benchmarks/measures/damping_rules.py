"""Every quantity that a rule for the damping could read, and rules that read them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

FAR = 1e6
#: Fewer subsets leave too few to judge a choice that used 16 of them.
MIN_SUBSETS = 40
FLOORS = (0.0, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4)
LEVELS = tuple(np.round(np.arange(0.05, 0.96, 0.01), 2))
FACTORS = tuple(np.geomspace(1e-4, 1e4, 81))
MOMENTS = ("xi", "xi_median", "xi_q25", "xi_q75", "xi_pooled", "share1", "share2", "share3",
           "energy1", "energy2", "cos_dot", "cos_next", "turn")  # fmt: skip

# ---- what is measured along a path -------------------------------------------------------------


def _quadratic_forms(path, tables: torch.Tensor) -> torch.Tensor:
    """``Σ_k tables[j, k] c_ik²`` of every query, (n_query, n_tables)."""
    if hasattr(path, "query_coordinates"):
        return path.query_coordinates.double().square() @ tables.mT
    return torch.cat([path.spectrum.forms(features, tables) for _, features in path.queries])


def _tables_of(spectrum) -> tuple[torch.Tensor, torch.Tensor]:
    """Eigenvalues and the data's shares in the order of the path's coordinates."""
    if hasattr(spectrum, "table"):
        return spectrum.table, spectrum.data_table
    return spectrum.eigenvalues, spectrum.data_eigenvalues


def moments(path, dampings, queries=slice(None)) -> dict:
    """Mean over queries of everything that moments of the spectrum give, each (n_dampings,)."""
    s, d = _tables_of(path.spectrum)
    d = d / d.max()
    t0, u0 = _quadratic_forms(path, torch.stack([d, torch.ones_like(d)]))[queries].unbind(1)
    rows = []
    for damping in dampings:
        x = damping / (s + damping)
        powers = torch.stack([d * x, d * x**2, d * x**3, d * x**4, x, x**2])
        t1, t2, t3, t4, u1, u2 = _quadratic_forms(path, powers)[queries].unbind(1)
        xi = t2 / (t1 * t3).sqrt()
        pooled = [(t / t0)[t0 > 0].mean() for t in (t1, t2, t3)]
        turn = (t4 / t2 - (t3 / t2).square()).clamp_min(0).sqrt()
        row = {
            "xi": xi.nanmean(),
            "xi_median": xi.nanmedian(),
            "xi_q25": xi.nanquantile(0.25),
            "xi_q75": xi.nanquantile(0.75),
            "xi_pooled": pooled[1] / (pooled[0] * pooled[2]).sqrt(),
            "share1": (t1 / t0).nanmean(),
            "share2": (t2 / t1).nanmean(),
            "share3": (t3 / t2).nanmean(),
            "energy1": (u1 / u0).nanmean(),
            "energy2": (u2 / u1).nanmean(),
            "cos_dot": (t1 / (t0 * t2).sqrt()).nanmean(),
            "cos_next": (t3 / (t2 * t4).sqrt()).nanmean(),
            "turn": turn.nanmean(),
        }
        rows.append([float(value) for value in row.values()])
    return dict(zip(row, np.array(rows).T.tolist(), strict=True))


def cosines(path, dampings, largest: float) -> dict:
    """Mean cosine of queries' scores with those of Grad-Dot, over the training rows."""
    far = path.scores(FAR * largest)
    found: dict = {"cos_scores": [], "cos_centered": []}
    for damping in dampings:
        scores = path.scores(damping)
        for key, shift in (("cos_scores", 0.0), ("cos_centered", 1.0)):
            a = scores - shift * scores.mean(1, keepdims=True)
            b = far - shift * far.mean(1, keepdims=True)
            cosine = (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
            found[key].append(float(np.nanmean(cosine)))
    return found


def dimensions(spectrum, dampings) -> dict:
    """Effective dimensions Σ d/(s + λ), traces."""
    s, d = spectrum.eigenvalues, spectrum.data_eigenvalues
    return {
        "df1": [float((d / (s + x)).sum()) for x in dampings],
        "trace": float(d.sum()),
        "square": float(d.square().sum()),
        "rank": int((d > spectrum.tolerance * d.max()).sum()),
        "penalty": float(spectrum.problem.penalty.mean()),
    }


def horizon(problem, model) -> dict:
    """Length of the training run: Σ lr over steps, momentum's gain included."""
    recipe, n = problem.spec.recipe, len(problem.X)
    if not recipe:
        return {"horizon": None, "optimizer": "exact"}
    steps = recipe["max_epochs"] * -(-n // recipe.get("batch_size", 64))
    rate = recipe["lr"]
    if recipe["optimizer"] is torch.optim.SGD:
        gain = 1 / (1 - recipe.get("optimizer__momentum", 0.0))
        return {"horizon": rate * steps * gain, "optimizer": "sgd"}
    states = model.optimizer_.state.values()
    correction = 1 - 0.999**steps
    scale = torch.cat([s["exp_avg_sq"].flatten() / correction for s in states]).sqrt()
    return {
        "horizon": float(rate * steps / scale.median().clamp_min(1e-8)),
        "optimizer": "adam",
    }


# ---- rules -------------------------------------------------------------------------------------


@dataclass
class Rule:
    """From a row and a constant to a damping; ``own``: a constant for each curvature."""

    name: str
    pick: Callable
    constants: tuple = (None,)
    curve: str = "lds"
    own: bool = False


def crossing(grid, values, level) -> float:
    """First λ at which a curve is at its level or above, interpolated on log λ."""
    values = np.asarray(values, dtype=float)
    above = np.flatnonzero(values >= level)
    if len(above) == 0:
        return grid[-1]
    k = above[0]
    if k == 0:
        return grid[0]
    share = (level - values[k - 1]) / (values[k] - values[k - 1])
    return grid[k - 1] * (grid[k] / grid[k - 1]) ** share


def _indicator(key: str, queries: str = "train") -> Callable:
    return lambda row, level: crossing(row["grid"], row[queries][key], level)


def _dimension(divisor: Callable) -> Callable:
    """Damping at which the effective dimension has fallen to a share of something."""
    return lambda row, share: crossing(row["grid"], -np.array(row["df1"]) / divisor(row), -share)


def _length(row) -> float:
    """1 / Σ lr, halves of the data taking half of the steps; 0 for models at their optimum."""
    return 2.0 / row["horizon"] if row["horizon"] else 0.0


def _matched(row, factor, scale=1.0):
    return max(factor * _length(row) * scale, row["grid"][0])


def _scaled(row, factor):
    """Brought to the curvature's own scale by traces."""
    return _matched(row, factor, row["trace"] / row["ggn_trace"])


def _equivalent(row, factor):
    """Deterministic equivalents: ridge of half the data, seen through a projection.

    ``κ = (R + c/Σlr) / (1 - df(κ)/m)`` for m rows and ``λ + R = κ (1 - df(κ)/k)`` for k
    dimensions, where df is the effective dimension measured at λ.
    """
    grid, scale = np.array(row["grid"]), row["trace"] / row["ggn_trace"]
    one = row["curvature"] in ("fisher", "trak")
    df = np.array(row["df1"]) / (1 if one else row["n_outputs"])
    below = row["penalty"] if row["optimizer"] == "exact" else 0.0
    target = row["penalty"] + below + factor * _length(row) * scale
    share = np.array(row["df1"]) / row["dim"] if row["dim"] else 0.0
    kappa = (grid + row["penalty"]) / np.clip(1 - share, 1e-9, None)
    return crossing(grid, kappa * (1 - df / round(0.5 * row["n"])), target)


def _argmax_of(key: str) -> Callable:
    """Damping at the top of a measured curve."""

    def pick(row, _):
        enough = "warm" in key or row["n_subsets"] >= MIN_SUBSETS
        return row["grid"][int(np.argmax(row[key]))] if row.get(key) and enough else np.nan

    return pick


def _slope(row, level):
    """Largest λ at which the curve's climb per decade is still below a level, before its top."""
    rise = np.gradient(row["train"]["xi"]) / np.gradient(np.log10(row["grid"]))
    return crossing(row["grid"], rise / rise.max(), level)


def _fastest(row, factor):
    return factor * row["grid"][int(np.argmax(np.gradient(row["train"]["xi"])))]


def _multiple(of: Callable) -> Callable:
    return lambda row, factor: factor * of(row)


def _with_floor(row, floor):
    """The cosine's damping, or the one at which ξ reaches a floor, if that is larger."""
    return max(_indicator("cos_scores")(row, 0.57), _indicator("xi")(row, floor))


def rules() -> list[Rule]:
    """All rules of the table."""
    xi, cosine = _indicator("xi"), _indicator("cos_scores")
    found = [
        Rule("library default", lambda row, _: row["default"] or row["grid"][0]),
        Rule("ξ = 0.37", lambda row, _: xi(row, 0.37)),
        Rule("ξ = 0.5", lambda row, _: xi(row, 0.5)),
        Rule("infinite λ: Grad-Dot", lambda row, _: row["grid"][-1]),
        Rule("0.1 · mean non-zero eigenvalue", lambda r, _: 0.1 * r["trace"] / r["rank"]),
        Rule("one λ for all", lambda row, c: c, FACTORS),
        Rule("c · mean non-zero eigenvalue", _multiple(lambda r: r["trace"] / r["rank"]), FACTORS),
        Rule("c · tr F / p", _multiple(lambda r: r["trace"] / r["p"]), FACTORS),
        Rule("c · tr F² / tr F", _multiple(lambda r: r["square"] / r["trace"]), FACTORS),
        Rule("c / Σ lr, the training run's own length", _matched, FACTORS),
        Rule("c / Σ lr, times tr F / tr GGN", _scaled, FACTORS),
        Rule("the same through deterministic equivalents", _equivalent, FACTORS),
        Rule("λ of ξ = 0.37 plus c / Σ lr", lambda r, c: xi(r, 0.37) + _scaled(r, c), FACTORS),
        Rule("the cosine's λ, or that of ξ = c", _with_floor, FLOORS),
        Rule("effective dimension / n", _dimension(lambda r: r["n"]), LEVELS),
        Rule("effective dimension / rank", _dimension(lambda r: r["rank"]), LEVELS),
        Rule("c · λ of ξ's fastest climb", _fastest, FACTORS),
        Rule("slope of ξ / its largest", _slope, LEVELS),
        Rule("ξ, one constant for each curvature", xi, LEVELS, own=True),
        Rule("cosine, one constant for each curvature", cosine, LEVELS, own=True),
        Rule("cosine of scores with Grad-Dot", cosine, LEVELS),
        Rule("the same, centered", _indicator("cos_centered"), LEVELS),
    ]
    for queries in ("train", "test"):
        for key in MOMENTS:
            found.append(Rule(f"{key} of {queries} rows", _indicator(key, queries), LEVELS))
    for n in ("8", "16"):
        found.append(Rule(f"{n} short continued trainings on halves", _argmax_of(f"warm{n}")))
        found.append(Rule(f"{n} retrainings on halves", _argmax_of(f"few{n}"), curve="lds_rest"))
    return found


def ratios(rows: list[dict], rule: Rule, constant) -> np.ndarray:
    """LDS at the rule's damping over the best of the grid, one a row."""
    found = []
    for row in rows:
        curve = np.array(row[rule.curve])
        log = np.log(np.clip(rule.pick(row, constant), row["grid"][0], row["grid"][-1]))
        found.append(np.interp(log, np.log(row["grid"]), curve) / curve.max())
    return np.array(found)


def by_setting(rows: list[dict], values: np.ndarray) -> np.ndarray:
    """Means over seeds: one number for each setting, curvature and projection."""
    cells: dict = {}
    for row, value in zip(rows, values, strict=True):
        cells.setdefault((row["problem"], row["curvature"], row["dim"]), []).append(value)
    return np.array([np.mean(v) for v in cells.values()])


def calibrated(rows: list[dict], rule: Rule) -> dict:
    """Constant of each curvature, or one of all, that is best on the half it is fitted on."""
    groups: dict = {}
    for row in rows:
        groups.setdefault(row["curvature"] if rule.own else "all", []).append(row)
    chosen = {}
    for key, members in groups.items():
        half = [row for row in members if row["half"] == "fit"] or members
        values = [by_setting(half, ratios(half, rule, c)).mean() for c in rule.constants]
        chosen[key] = rule.constants[int(np.nanargmax(values))] if len(values) > 1 else None
    return chosen


def settings_error(rows: list[dict], values: np.ndarray) -> float:
    """Standard error of the mean over settings, whose cells are not independent."""
    groups: dict = {}
    for row, value in zip(rows, values, strict=True):
        groups.setdefault(row["problem"], []).append(value)
    means = [np.mean(v) for v in groups.values()]
    return float(np.std(means, ddof=1) / np.sqrt(len(means))) if len(means) > 1 else np.nan


def settings_line(name, own):
    """Mean and worst ratio over curvatures, projections and seeds."""
    cells = []
    for rule in ("ξ = 0.37", "ξ = 0.5", "cosine of scores with Grad-Dot"):
        found = next(r for r in rules() if r.name == rule)
        over = ratios(own, found, 0.57)
        cells.append(f"{over.mean():.2f} / {over.min():.2f}")
    best = [r["train"]["cos_scores"][int(np.argmax(r["lds"]))] for r in own]
    top = f"{np.mean([max(r['lds']) for r in own]):.2f}"
    return [name, own[0]["half"], top, *cells, f"{min(best):.2f} to {max(best):.2f}"]
