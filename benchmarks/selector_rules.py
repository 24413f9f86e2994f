"""Rules for the damping, compared on what ``bench_selectors.py`` measured.

    python benchmarks/selector_rules.py FILE [FILE ...]

A rule with a constant takes the one whose mean ratio to the best LDS is largest over the cells of
the settings that are marked "calibrate"; the table shows the cells of the others ("test").
Ratios: LDS at the rule's damping over the best LDS of the grid, cells of two seeds averaged.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from selector_settings import SETTINGS

#: Fewer subsets leave too few to judge a choice that used 16 of them.
MIN_SUBSETS = 40
FLOORS = (0.0, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4)
LEVELS = tuple(np.round(np.arange(0.05, 0.96, 0.01), 2))
MOMENTS = ("xi", "xi_median", "xi_q25", "xi_q75", "xi_pooled", "share1", "share2", "share3")
MOMENTS += ("energy1", "energy2", "cos_dot", "cos_next", "turn")
FACTORS = tuple(np.geomspace(1e-4, 1e4, 81))


@dataclass
class Rule:
    """From a cell and a constant to a damping."""

    name: str
    pick: Callable
    constants: tuple = (None,)
    curve: str = "lds"
    own_constant: bool = False  # one for each curvature


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


def indicator(key: str, queries: str = "train") -> Callable:
    """Damping at which a measured mean over queries reaches a level."""
    return lambda row, level: crossing(row["grid"], row[queries][key], level)


def dimension(divisor: Callable) -> Callable:
    """Damping at which the effective dimension has fallen to a share of something."""
    return lambda row, share: crossing(row["grid"], -np.array(row["df1"]) / divisor(row), -share)


def horizon(row) -> float:
    """1 / Σ lr, halves of the data taking half of the steps; 0 for models at their optimum."""
    return 2.0 / row["horizon"] if row["horizon"] else 0.0


def matched(row, factor):
    """Multiple of 1 / Σ lr."""
    return max(factor * horizon(row), row["grid"][0])


def matched_scaled(row, factor):
    """Multiple of 1 / Σ lr, brought to the curvature's own scale by traces."""
    return max(factor * horizon(row) * row["trace"] / row["ggn_trace"], row["grid"][0])


def below(row):
    """Penalty that halves of the data have beyond the full data's: that of summed losses."""
    return row["penalty"] if row["optimizer"] == "exact" else 0.0


def equivalent(row, factor):
    """Deterministic equivalents: ridge of half the data, seen through a projection.

    ``κ = (R + c/Σlr) / (1 - df(κ)/m)`` for m rows and ``λ + R = κ (1 - df(κ)/k)`` for k
    dimensions, where df is the effective dimension measured at λ.
    """
    grid, scale = np.array(row["grid"]), row["trace"] / row["ggn_trace"]
    df = np.array(row["df1"]) / (1 if row["curvature"] in ("fisher", "trak") else row["n_outputs"])
    target = row["penalty"] + below(row) + factor * horizon(row) * scale
    kept = np.array(row["df1"]) / row["dim"] if row["dim"] else 0.0
    kappa = (grid + row["penalty"]) / np.clip(1 - kept, 1e-9, None)
    return crossing(grid, kappa * (1 - df / row["n_subset"]), target)


def argmax_of(key: str) -> Callable:
    """Damping at the top of a measured curve."""

    def pick(row, _):
        enough = "warm" in key or SETTINGS[row["setting"]].n_subsets >= MIN_SUBSETS
        return row["grid"][int(np.argmax(row[key]))] if key in row and enough else np.nan

    return pick


def multiple(of: Callable) -> Callable:
    """Multiple of a size of the curvature."""
    return lambda row, factor: factor * of(row)


def xi_and_horizon(level: float) -> Callable:
    """Sum of the ξ rule's damping and a multiple of the matched one."""
    return lambda row, factor: indicator("xi")(row, level) + matched_scaled(row, factor)


def cosine_with_floor(row, floor):
    """The cosine's damping, or the one at which ξ reaches a floor, if that is larger."""
    return max(indicator("cos_scores")(row, 0.57), indicator("xi")(row, floor))


def fastest(key: str) -> Callable:
    """Multiple of the damping at which a curve climbs fastest."""
    return lambda row, factor: factor * row["grid"][int(np.argmax(np.gradient(row["train"][key])))]


def slope(key: str) -> Callable:
    """Largest λ at which the curve's climb per decade is still below a level, before its top."""

    def pick(row, level):
        rise = np.gradient(row["train"][key]) / np.gradient(np.log10(row["grid"]))
        return crossing(row["grid"], rise / rise.max(), level)

    return pick


def rules() -> list[Rule]:
    """All rules of the table."""
    found = [
        Rule("library default (ξ 0.37)", lambda row, _: row["default"] or row["grid"][0]),
        Rule("ξ = 0.5", lambda row, _: indicator("xi")(row, 0.5)),
        Rule("largest of the grid: Grad-Dot", lambda row, _: row["grid"][-1]),
        Rule("0.1 mean eigenvalue (tr/rank)", lambda row, _: 0.1 * row["trace"] / row["rank"]),
        Rule("c, a constant", lambda row, c: c, FACTORS),
        Rule("c tr/rank", multiple(lambda r: r["trace"] / r["rank"]), FACTORS),
        Rule("c tr/p", multiple(lambda r: r["trace"] / r["p"]), FACTORS),
        Rule("c tr F²/tr F", multiple(lambda r: r["square"] / r["trace"]), FACTORS),
        Rule("c / Σlr", matched, FACTORS),
        Rule("c / Σlr, scaled by traces", matched_scaled, FACTORS),
        Rule("equivalent ridge, c / Σlr", equivalent, FACTORS),
        Rule("ξ 0.37 + c / Σlr scaled", xi_and_horizon(0.37), FACTORS),
        Rule("cosine 0.57, at least ξ c", cosine_with_floor, FLOORS),
        Rule("df / n", dimension(lambda r: r["n"]), LEVELS),
        Rule("df / rank", dimension(lambda r: r["rank"]), LEVELS),
        Rule("c λ of fastest ξ", fastest("xi"), FACTORS),
        Rule("slope of ξ / its largest", slope("xi"), LEVELS),
    ]
    for queries in ("train", "test"):
        for key in MOMENTS:
            found.append(Rule(f"{key} of {queries} rows", indicator(key, queries), LEVELS))
    found.append(
        Rule("xi of train rows, own c", indicator("xi"), LEVELS, own_constant=True),
    )
    found.append(
        Rule("cos_scores of train rows, own c", indicator("cos_scores"), LEVELS, own_constant=True),
    )
    for key in ("cos_scores", "cos_centered"):
        found.append(Rule(f"{key} of train rows", indicator(key), LEVELS))
    for key in ("warm8", "warm16"):
        found.append(Rule(f"{key[4:]} continued trainings", argmax_of(key)))
    for key in ("few8", "few16"):
        found.append(Rule(f"{key[3:]} retrainings", argmax_of(key), curve="lds_rest"))
    return found


def ratios(rows: list[dict], rule: Rule, constant) -> np.ndarray:
    """LDS at the rule's damping over the best of the grid, one a row."""
    found = []
    for row in rows:
        damping = rule.pick(row, constant)
        curve = np.array(row[rule.curve])
        log = np.log(np.clip(damping, row["grid"][0], row["grid"][-1]))
        found.append(np.interp(log, np.log(row["grid"]), curve) / curve.max())
    return np.array(found)


def calibrated(rows: list[dict], rule: Rule) -> dict:
    """Constant of each curvature, or one of all, that is best on the calibration half."""
    groups: dict = {}
    for row in rows:
        key = row["curvature"] if rule.own_constant else "all"
        groups.setdefault(key, []).append(row)
    chosen = {}
    for key, members in groups.items():
        half = [row for row in members if SETTINGS[row["setting"]].half == "calibrate"]
        values = [by_setting(half, ratios(half, rule, c)).mean() for c in rule.constants]
        chosen[key] = rule.constants[int(np.nanargmax(values))] if len(values) > 1 else None
    return chosen


def settings_error(rows: list[dict], values: np.ndarray) -> float:
    """Standard error of the mean over settings, whose cells are not independent."""
    groups: dict = {}
    for row, value in zip(rows, values, strict=True):
        groups.setdefault(row["setting"], []).append(value)
    means = [np.mean(v) for v in groups.values()]
    return float(np.std(means, ddof=1) / np.sqrt(len(means))) if len(means) > 1 else np.nan


def by_setting(rows: list[dict], values: np.ndarray) -> np.ndarray:
    """Means over seeds: one number for each setting, curvature and projection."""
    cells: dict = {}
    for row, value in zip(rows, values, strict=True):
        cells.setdefault((row["setting"], row["curvature"], row["dim"]), []).append(value)
    return np.array([np.mean(v) for v in cells.values()])


def read(files: list[Path]) -> list[dict]:
    """Rows of all files, each with the trace of its setting's Gauss-Newton matrix."""
    lines = [line for file in files for line in file.read_text().splitlines()]
    rows = {}
    for line in lines:
        row = json.loads(line)
        rows[row["setting"], row["seed"], row["curvature"], row["dim"]] = row
    found = list(rows.values())
    for row in found:
        row["n_outputs"] = (
            1
            if "concrete" in row["setting"] or "diabetes" in row["setting"]
            else (9 if "digits" in row["setting"] or "mnist" in row["setting"] else 1)
        )
        row["ggn_trace"] = next(
            (
                other["trace"]
                for other in found
                if (other["setting"], other["seed"], other["curvature"])
                == (row["setting"], row["seed"], "ggn")
            ),
            row["trace"],
        )
    return found


def usable(rows: list[dict]) -> Iterator[dict]:
    """Cells in which some damping predicts retraining at all."""
    for row in rows:
        if max(row["lds"]) > 0.1:
            yield row


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--curvatures", nargs="+", default=None)
    options = parser.parse_args()
    rows = list(usable(read(options.files)))
    if options.curvatures:
        rows = [row for row in rows if row["curvature"] in options.curvatures]
    table = []
    for rule in rules():
        own = [row for row in rows if not np.isnan(rule.pick(row, rule.constants[0]))]
        constants = calibrated(own, rule)
        line = {"rule": rule.name, "constant": constants}
        for half in ("calibrate", "test"):
            members = [row for row in own if SETTINGS[row["setting"]].half == half]
            values = np.array(
                [
                    ratios([r], rule, constants[r["curvature"] if rule.own_constant else "all"])[0]
                    for r in members
                ]
            )
            line[half] = by_setting(members, values)
            line[f"{half} error"] = settings_error(members, values)
        table.append(line)
    table.sort(key=lambda line: -line["test"].mean() if len(line["test"]) else 0)
    print(f"{'rule':<34}{'constant':>12}   calibration half                 test half")
    print(f"{'':<46}   {'mean (s.e.)  median worst  n':<33}mean (s.e.)  median worst  n")
    for line in table:
        constant = line["constant"].get("all")
        shown = "" if constant is None else f"{constant:.2g}"
        parts = [
            f"{v.mean():.3f} ({e:.3f}) {np.median(v):.3f}  {v.min():.3f} {len(v):>3}"
            if len(v)
            else "-"
            for v, e in (
                (line["calibrate"], line["calibrate error"]),
                (line["test"], line["test error"]),
            )
        ]
        print(f"{line['rule']:<34}{shown:>12}   {parts[0]:<33}{parts[1]}")


if __name__ == "__main__":
    main()
