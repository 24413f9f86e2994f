"""Building an index: fit, write the map, write shard after shard, measure the rounding."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from torch import Tensor

from influencekit._fitted import learned_rows
from influencekit.data._examples import Examples, ExamplesList, each
from influencekit.data._sample import SampledExamples
from influencekit.index._coordinates import Coordinates, coordinates_of
from influencekit.index._shards import (
    described,
    is_whole,
    noted,
    write_shard,
)
from influencekit.index.files._decode import Decoder
from influencekit.index.files._encode import Encoder
from influencekit.index.files._fingerprints import feed
from influencekit.index.files._folder import read_manifest, write_manifest
from influencekit.models._task import Task, TaskList
from influencekit.models.losses._base import class_positions
from influencekit.utils._archives import DamagedFile
from influencekit.utils._files import check_writable
from influencekit.utils._long_work import chunks, progress
from influencekit.utils._parallel import in_parallel
from influencekit.utils.validation import present

__all__ = [
    "Plan",
    "build_key",
    "build_shards",
    "learn",
    "projection_options",
    "read_map",
    "rows_of_shard",
    "write_map",
]

MAP_FORMAT, MAP_VERSION = "influencekit index map", 1
#: Bytes of a shard in float64 where ``shard_rows`` is None, and share of ``max_memory``.
SHARD_BYTES, SHARE = 2**26, 16


@dataclass
class Plan:
    """What the models learned from, as an index reads it.

    Attributes
    ----------
    models : Task or TaskList
    train : Examples or ExamplesList
        All rows.
    learned : list of bool ndarray of shape (n,)
        Rows that each model learned from.
    """

    models: Any
    train: Any
    learned: list[np.ndarray]

    @classmethod
    def of(cls, models: Any, train: Any) -> Plan:
        """The plan of models and their training examples."""
        tasks, learned = [], []
        for task, own in zip(each(models), each(train), strict=True):
            mask = np.zeros(len(own), dtype=bool)
            mask[learned_rows(task, own)] = True
            learned.append(mask)
            tasks.append(_of_all_rows(task, _some(own, mask)))
        several = isinstance(models, TaskList)
        return cls(TaskList(tasks) if several else tasks[0], train, learned)

    def known(self) -> Any:
        """Examples that each model learned from."""
        pairs = zip(each(self.train), self.learned, strict=True)
        found = [_some(own, mask) for own, mask in pairs]
        return ExamplesList(found) if isinstance(self.models, TaskList) else found[0]

    def of_rows(self, rows: slice | np.ndarray) -> tuple[Any, list[np.ndarray]]:
        """Some rows of the data, and which of them each model learned from."""
        return self.train.take(rows), [mask[rows] for mask in self.learned]


def _some(examples: Examples, mask: np.ndarray) -> Examples:
    return examples if mask.all() else examples.take(mask)


def _of_all_rows(task: Task, learned: Examples) -> Any:
    """The same Task, for examples that it learned from, whatever their number.

    Which rows it held out, and how rare its classes are, is known from all rows only.
    """
    weight = task.class_weight
    if isinstance(weight, str):
        targets = present(learned.targets, "training targets")
        found, classes = task.example_weights(targets, learned.weights), class_positions(targets)
        given = torch.ones_like(found) if learned.weights is None else learned.weights
        counted = given > 0
        weight = torch.ones(int(classes.max()) + 1, dtype=found.dtype, device=found.device)
        weight[classes[counted]] = found[counted] / given[counted].to(found)
    return replace(task, training_rows=None, class_weight=weight)


def learn(attributor: Any, plan: Plan, n_rows: int | None, options: dict[str, Any]) -> Coordinates:
    """Fit an attributor, and keep only what makes coordinates.

    Parameters
    ----------
    attributor : attributor
        Unfitted.
    plan : Plan
    n_rows : int or None
        Rows that the curvature is estimated on, evenly spaced; None is all.
    options : dict
        Of projections of whole gradients.

    Returns
    -------
    Coordinates
    """
    known = plan.known()
    fitted = clone(attributor).fit(plan.models, _sample(known, plan, n_rows))
    return coordinates_of(fitted, known, options)


def projection_options(index: Any) -> dict[str, Any]:
    """Projection of an index, for attributors that do not project themselves."""
    own = {"dim": index.projection_dim, "projection": index.projection}
    return {**own, "random_state": index.random_state}


def _sample(known: Any, plan: Plan, n_rows: int | None) -> Any:
    found = []
    for task, own in zip(each(plan.models), each(known), strict=True):
        if n_rows is None or n_rows >= len(own):
            found.append(own)
            continue
        some = own.take(np.linspace(0, len(own) - 1, n_rows).astype(np.int64)).gathered()
        if task.penalty_kind == "sum":  # which counts against the weight of all rows
            ones = torch.ones(len(some), dtype=torch.float64, device=own.placement.device)
            given = ones if some.weights is None else some.weights
            some = some.weighted((given * (len(own) / n_rows)).cpu().numpy())
        found.append(SampledExamples(some, len(own)))
    return ExamplesList(found) if isinstance(plan.models, TaskList) else found[0]


# -- the map in its folder ------------------------------------------------------------------


def build_key(*parts: Any) -> str:
    """Digest of all that the bytes of an index depend on."""
    sha = hashlib.sha256()
    feed(sha, parts)
    return sha.hexdigest()[:32]


def write_map(
    folder: Path, key: str, coordinates: Coordinates, tasks: Sequence[Task], rows: int = 0
) -> None:
    """Keep the map, so that a build that was killed goes on with the same one."""
    check_writable(folder, "folder")
    encoder = Encoder(folder, tasks)
    manifest = {
        "format": MAP_FORMAT,
        "format_version": MAP_VERSION,
        "key": key,
        "rows": rows,
        "map": encoder.encode(coordinates, "attributor"),
        "arrays": encoder.arrays,
    }
    write_manifest(folder, manifest)


def read_map(folder: Path, tasks: Sequence[Task]) -> tuple[str, int, Coordinates]:
    """The key of a build, the rows of its shards, and the map."""
    manifest = read_manifest(folder, MAP_FORMAT, MAP_VERSION)
    try:
        found = Decoder(folder, manifest.get("arrays"), tasks).decode(manifest.get("map"))
    except RecursionError:
        raise DamagedFile(f"{folder} is damaged: its manifest is nested without end") from None
    rows = manifest.get("rows")
    if not isinstance(found, Coordinates) or type(rows) is not int or not found.is_whole:
        raise DamagedFile(f"{folder} is damaged: it holds no map of coordinates")
    return str(manifest.get("key")), rows, found


# -- shards ---------------------------------------------------------------------------------


def rows_of_shard(shard_rows: int | None, dim: int, max_memory: int) -> int:
    """Rows of a shard: as given, or what a share of the memory holds in float64."""
    if shard_rows is not None:
        return shard_rows
    return max(64, min(SHARD_BYTES, max_memory // SHARE) // (8 * dim))


def build_shards(
    folder: Path,
    coordinates: Coordinates,
    plan: Plan,
    settings: dict[str, Any],
    prefix: str = "",
    part: tuple[int, int] = (0, 1),
    known: Sequence[dict[str, Any]] = (),
) -> list[Any]:
    """Write the shards that are not there yet, or not as they were written.

    Which rows a shard has depends on the settings alone, so all who write it write the same bytes.

    Parameters
    ----------
    folder : Path
    coordinates : Coordinates
    plan : Plan
    settings : dict
        ``dtype``, ``rows`` of a shard, ``n_jobs`` and ``verbose``.
    prefix : str, default=""
        Begins the names of the shards.
    part : tuple of int, default=(0, 1)
        i and k: of the shards numbered 0, 1, ..., write those with number % k == i.
    known : sequence of dict, default=()
        What a manifest says of the shards already.

    Returns
    -------
    list of dict or None
        What a manifest says of all shards; None for those that others have not written.
    """
    folder, (i, k) = folder.resolve(), part  # workers may have another current folder
    slices = list(chunks(plan.train.n_examples, 1, settings["rows"]))
    sizes, dtype = (coordinates.dim, coordinates.n_blocks), settings["dtype"]
    names = [f"{prefix}{number:06d}" for number in range(len(slices))]
    pairs = zip(names, slices, strict=True)
    plain = [described(name, rows.stop - rows.start, *sizes, dtype) for name, rows in pairs]

    def on_disk() -> list[Any]:
        return [noted(folder, *pair) for pair in zip(names, plain, strict=True)]

    entries: list[Any] = list(known) or on_disk()
    own = range(i, len(slices), k)
    missing = [number for number in own if not is_whole(folder, entries[number])]
    sent = [partial(_sent, names[number], plan, slices[number]) for number in missing]
    shared = {"folder": folder, "coordinates": coordinates, "dtype": dtype}
    with progress(None, "shards", settings["verbose"], total=len(own)) as bar:
        bar.update(len(own) - len(missing))
        for position, _ in in_parallel(_make, sent, settings["n_jobs"], **shared):
            number = missing[position]
            entries[number] = noted(folder, names[number], plain[number])
            _check_shared(folder, entries[number], names[number])
            bar.update(1)
    return entries if k == 1 else on_disk()


def _sent(name: str, plan: Plan, rows: slice) -> tuple[str, Any, list[np.ndarray]]:
    """What a worker needs to make a shard."""
    examples, learned = plan.of_rows(rows)
    held = all(own.source.tree is not None for own in each(examples))
    return name, examples.gathered() if held else examples, learned


def _make(item: tuple, folder: Path, coordinates: Coordinates, dtype: str) -> None:
    """Write one shard."""
    name, examples, learned = item
    found, ratios, selves = _computed(coordinates, examples.gathered(), learned)
    write_shard(folder, name, found, selves, ratios, dtype)


def _check_shared(folder: Path, entry: Any, name: str) -> None:
    """Refuse workers that write to a disk of their own."""
    if entry is None:
        raise FileNotFoundError(
            f"folder: a worker wrote the shard {name!r}, which is not in {str(folder)!r} here; "
            f"accepted is a folder that all workers share."
        )


def _computed(
    coordinates: Coordinates, examples: Any, learned: list[np.ndarray]
) -> tuple[Tensor, Tensor, Tensor]:
    """Coordinates, ratios and self-influence of some rows, float64."""
    rows, ratios, selves = coordinates.rows(examples, learned)
    if any(coordinates.runs):
        own = coordinates.explaining("neg_loss").queries(examples)
        selves = (own * rows).sum(1)
    if coordinates.is_unit:  # their length depends on all rows
        selves = torch.full_like(selves, torch.nan)
    return rows, ratios, selves
