"""Ground truth is made: a model is trained, then trained again without some of its rows."""

from __future__ import annotations

import sys
import time
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.atlas import language
from benchmarks.atlas.cells import CELLS, Cell
from benchmarks.atlas.models import TRUTHS, fitted
from benchmarks.atlas.parts import add_parts
from benchmarks.harness import machine
from influencekit.datasets import get_data_home
from influencekit.datasets._ground_truth import as_given, plant
from influencekit.datasets._truth_data import SOURCES, n_rows, read_rows
from influencekit.datasets._truth_files import PARTS, packed, write_truth
from influencekit.datasets._truth_language import is_language
from influencekit.datasets._truth_models import is_net, new_model, predictions_of
from influencekit.metrics import noise_ceiling
from influencekit.training import (
    rerun_without,
    retrain_on_subsets,
)

#: Of what is left out of a run: sets of each share, groups of similar rows, single rows.
SHARES, N_SETS, N_GROUPS, N_SINGLE = (0.1, 0.01), 30, 30, 40
FLIPPED, MOST_COPIED = 0.1, 10


def make(names: list[str], folder: Path = TRUTHS, parts=tuple(PARTS), say=print) -> None:
    """Make what is not there yet; an ended run goes on with the next."""
    for name in names:
        began, made = time.perf_counter(), []
        if not (folder / f"{name}.json").exists():
            truth_of(name, CELLS[name], folder)
            made = ["models"]
        made += add_parts(name, folder, list(parts))
        if made:
            size = (folder / f"{name}.npz").stat().st_size / 1000
            took = time.perf_counter() - began
            say(f"{name}, {' and '.join(made)}: {took:.0f} s, {size:.0f} kB", flush=True)


def truth_of(name: str, cell: Cell, folder: Path) -> None:
    """Train, leave rows out, and write."""
    if is_language(cell.model):
        arrays = language.arrays_of(cell)
        parts = {"parts": {"further": {"epochs": language.EPOCHS}}}
        return write_truth(folder, {**_recipe(name, cell, "neg_loss", arrays), **parts}, arrays)
    rng = np.random.default_rng(zlib.crc32(cell.source.encode()))
    order = rng.permutation(n_rows(cell.source, get_data_home()))[: cell.n_train + cell.n_query]
    train, query = np.sort(order[: cell.n_train]), np.sort(order[cell.n_train :])
    rows = as_given(cell.model, read_rows(cell.source, get_data_home(), train, query))
    cell = _sized(cell, rows[0])
    output = "margin" if SOURCES[cell.source][2] else "neg_loss"
    model, weights = fitted(cell.model, *rows[:2])
    halves = retrain_on_subsets(
        new_model(cell.model), *rows, n_subsets=cell.n_halves, n_repeats=cell.n_repeats,
        output=output, random_state=0,
    )  # fmt: skip
    arrays = {
        "train": train, "query": query, "query_means": rows[2].mean(axis=0, dtype=np.float64),
        "predictions": predictions_of(model, rows[2]).astype(np.float32), **weights,
        "halves.masks": packed(halves.masks), "halves.outputs": halves.outputs.astype(np.float32),
        **left_out(model, cell, rows, output, rng), **planted(cell, rows, rng),
    }  # fmt: skip
    write_truth(folder, _recipe(name, cell, output, arrays), arrays)


def _recipe(name: str, cell: Cell, output: str, arrays: dict) -> dict:
    several = cell.n_repeats > 1
    halves = arrays["halves.outputs"]
    ceiling = noise_ceiling(halves).attainable_correlation if several else 1.0
    return {
        "name": name, "source": cell.source, "model": cell.model, "output": output,
        "n_train": len(arrays["train"]), "n_query": len(arrays["query"]), "group": cell.group,
        "settings": {"n_halves": cell.n_halves, "n_repeats": cell.n_repeats, "seed": 0,
                     "shares": SHARES, "n_sets": N_SETS, "n_groups": N_GROUPS},
        "noise_ceiling": float(ceiling), "license": cell.license,
        "versions": machine.versions(sys.executable),
    }  # fmt: skip


def _sized(cell: Cell, X: np.ndarray) -> Cell:
    """A net's first size is the number of columns."""
    if cell.model["kind"] != "mlp":
        return cell
    return replace(cell, model={**cell.model, "sizes": [X.shape[1], *cell.model["sizes"][1:]]})


def left_out(model, cell: Cell, rows: tuple, output: str, rng) -> dict[str, np.ndarray]:
    """Outputs of this run without sets of rows, without groups, and without single rows."""
    n = len(rows[0])
    sets = [rng.choice(n, max(2, round(share * n)), replace=False)
            for share in SHARES for _ in range(N_SETS)]  # fmt: skip
    groups = similar_rows(rows[0], rng)
    single = np.sort(rng.choice(n, min(N_SINGLE, n // 2), replace=False))
    without = np.ones((1 + len(sets) + len(groups) + len(single), n), dtype=bool)
    for mask, chosen in zip(without[1:], [*sets, *groups, *single[:, None]], strict=True):
        mask[chosen] = False
    outputs = _this_run(model, cell, rows, output, without)
    ends = 1 + np.cumsum([len(sets), len(groups)])
    ends = [slice(1, ends[0]), slice(ends[0], ends[1]), slice(ends[1], None)]
    found = {"single.rows": single, "single.changes": (outputs[0] - outputs[ends[2]]).T}
    for kind, own in zip(("without", "groups"), ends, strict=False):
        found[f"{kind}.masks"] = packed(without[own])
        found[f"{kind}.outputs"] = outputs[own][:, None].astype(np.float32)
    return found


def _this_run(model, cell: Cell, rows: tuple, output: str, masks: np.ndarray) -> np.ndarray:
    """Outputs (n_masks, n_query): nets repeat their run, other models have no chance in theirs."""
    if is_net(cell.model):
        found = rerun_without(model, *rows, masks=masks, output=output)
    else:
        new = new_model(cell.model)
        found = retrain_on_subsets(new, *rows, masks=masks, output=output, random_state=0)
    return found.outputs[:, 0]


def similar_rows(X: np.ndarray, rng) -> list[np.ndarray]:
    """Groups of 5 % of the rows: those nearest to a row at random."""
    if X.dtype.kind == "i":  # words: which of them a text has
        X = (X[:, :, None] == np.arange(1, X.max() + 1)).any(1)
    X, size = X.astype(np.float64), max(2, len(X) // 20)
    centers = rng.choice(len(X), min(N_GROUPS, len(X) // 2), replace=False)
    distances = ((X[centers, None] - X[None]) ** 2).sum(2) if X.shape[1] < 100 else np.stack(
        [((X[c] - X) ** 2).sum(1) for c in centers])  # fmt: skip
    return list(np.argsort(distances, axis=1, kind="stable")[:, :size])


def planted(cell: Cell, rows: tuple, rng) -> dict[str, np.ndarray]:
    """Wrong labels and copies of queries, and the model that learned from them."""
    X, y, X_query, _ = rows
    n_copied = min(MOST_COPIED, max(1, len(X) // 20), len(X_query))
    order = rng.permutation(len(X))
    n_flipped = max(2, round(FLIPPED * len(X)))
    flipped, copied = np.sort(order[:n_flipped]), order[n_flipped : n_flipped + n_copied]
    queries = rng.permutation(len(X_query))[:n_copied]
    labels = wrong_labels(y, flipped, rng)
    spoiled = plant(*rows, flipped, labels, (copied, queries))
    model, weights = fitted(cell.model, *spoiled, start="planted.")
    return {"planted.flipped": flipped, "planted.labels": labels, "planted.copied": copied,
            "planted.queries": queries, **weights,
            "planted.predictions": predictions_of(model, X_query).astype(np.float32)}  # fmt: skip


def wrong_labels(y: np.ndarray, rows: np.ndarray, rng) -> np.ndarray:
    """Another class, or the number of a row that differs by a standard deviation or more."""
    values = y.reshape(len(y))
    if y.dtype.kind != "f":
        n_classes = int(values.max()) + 1
        return ((values[rows] + rng.integers(1, n_classes, len(rows))) % n_classes).astype(float)
    others = [np.flatnonzero(np.abs(values - values[row]) >= 1) for row in rows]
    return np.array([values[rng.choice(other)] for other in others], dtype=np.float64)
