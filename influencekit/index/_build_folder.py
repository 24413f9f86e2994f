"""A build from its folder: what is there already is kept, what is missing is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock
from sklearn.base import clone

from influencekit.data._examples import each
from influencekit.index._build import (
    Plan,
    build_key,
    build_shards,
    learn,
    projection_options,
    read_map,
    rows_of_shard,
    write_map,
)
from influencekit.index._contents import (
    Contents,
    delete_others,
    inner_folder,
    read_contents,
    write_contents,
)
from influencekit.index._coordinates import Coordinates
from influencekit.index._rounding import rounding
from influencekit.index.files._fingerprints import data_digest, model_digests
from influencekit.index.files._folder import MANIFEST
from influencekit.models._task import Task
from influencekit.utils._files import check_writable
from influencekit.utils._long_work import parse_memory

__all__ = ["build_part", "built", "check_held", "shard_settings"]

#: Held while the map is made.
_LOCK = "map.lock"
#: Settings that decide the bytes of an index.
DECISIVE = (
    "dtype",
    "shard_rows",
    "curvature_rows",
    "projection_dim",
    "projection",
    "random_state",
)


def built(index: Any, plan: Plan, tasks: Sequence[Task]) -> tuple[Coordinates, Contents]:
    """The map and the contents of an index's folder, made as far as they are missing.

    Parameters
    ----------
    index : AttributionIndex
    plan : Plan
    tasks : sequence of Task
        The models.

    Returns
    -------
    coordinates : Coordinates
    contents : Contents

    Raises
    ------
    FileExistsError
        If the folder holds something else.
    """
    folder = Path(index.folder)
    check_writable(folder, "folder")
    coordinates, rows = _map(index, folder, plan, tasks)
    settings = shard_settings(index, rows)
    if (folder / MANIFEST).exists():
        contents = read_contents(folder)
        _check_unchanged(contents, folder)
        shards = build_shards(folder, coordinates, plan, settings, known=contents.shards)
        if shards == contents.shards:
            delete_others(folder, contents)
        else:  # another version's bits in place of damaged ones
            contents = replace(contents, shards=shards)
            write_contents(folder, contents, index)
        return coordinates, contents
    contents = Contents(
        dtype=index.dtype,
        dim=coordinates.dim,
        n_blocks=coordinates.n_blocks,
        shards=build_shards(folder, coordinates, plan, settings),
        rounding=rounding(coordinates, plan, index.dtype),
        models=model_digests(tasks),
        learned=[] if all(mask.all() for mask in plan.learned) else plan.learned,
        labels=index.train_index_,
    )
    write_contents(folder, contents, index)
    (folder / _LOCK).unlink(missing_ok=True)
    return coordinates, contents


def shard_settings(index: Any, rows: int) -> dict[str, Any]:
    """How the shards of an index are written."""
    names = ("dtype", "n_jobs", "verbose")
    return {"rows": rows, **{name: getattr(index, name) for name in names}}


def build_part(index: Any, plan: Plan, tasks: Sequence[Task], part: tuple[int, int]) -> int:
    """Write some of the shards of an index, beside processes that write the others.

    Parameters
    ----------
    index : AttributionIndex
    plan : Plan
    tasks : sequence of Task
    part : tuple of int
        i and k: every k-th shard from the i-th.

    Returns
    -------
    int
        Shards of the index that are not there yet.
    """
    folder = Path(index.folder)
    check_writable(folder, "folder")
    coordinates, rows = _map(index, folder, plan, tasks)
    if (folder / MANIFEST).exists():
        return 0
    settings = shard_settings(index, rows)
    return build_shards(folder, coordinates, plan, settings, part=part).count(None)


def _map(index: Any, folder: Path, plan: Plan, tasks: Sequence[Task]) -> tuple[Coordinates, int]:
    """The map in the folder and the rows of a shard, made first if there is none."""
    own, key = inner_folder(folder, "map"), _key(index, tasks, plan)
    if not (own / MANIFEST).exists():
        other = any(path.name not in ("map", _LOCK) for path in folder.iterdir())
        if other and not (own / MANIFEST).exists():  # shards come after the map
            raise FileExistsError(
                f"folder: {str(folder)!r} holds files of something else; accepted is an empty "
                f"folder, a new one, or one in which a build was ended."
            )
        with FileLock(folder / _LOCK):  # one process learns, others wait for what it learned
            if not (own / MANIFEST).exists():
                _write_new_map(index, own, key, plan, tasks)
    held, rows, coordinates = read_map(own, tasks)
    if held != key:
        raise FileExistsError(
            f"folder: {str(folder)!r} holds an index of another model, other data or other "
            f"settings. Give another folder, delete it, or open it with AttributionIndex.open."
        )
    return coordinates, rows


def _write_new_map(index: Any, own: Path, key: str, plan: Plan, tasks: Sequence[Task]) -> None:
    found = learn(index.attributor, plan, index.curvature_rows, projection_options(index))
    rows = rows_of_shard(index.shard_rows, found.dim, parse_memory(index.max_memory))
    write_map(own, key, found, tasks, rows)


def _key(index: Any, tasks: Sequence[Task], plan: Plan) -> str:
    """A digest of all that the bytes of the index depend on."""
    own = {k: v for k, v in index.get_params(deep=False).items() if k in DECISIVE}
    held = clone(index.attributor)
    settings = [type(held).__name__, held.get_params(deep=True), own]
    return build_key(model_digests(tasks), data_digest(each(plan.train)), settings)


def _check_unchanged(contents: Contents, folder: Path) -> None:
    """Refuse an index whose rows are no longer those of ``fit``."""
    if contents.generation:
        raise FileExistsError(
            f"folder: {str(folder)!r} holds an index that was changed since its build, by "
            f"add_rows, remove_rows or refresh. Open it with AttributionIndex.open, or give "
            f"another folder."
        )


def check_held(attributor: Any) -> None:
    """Refuse attributors that score groups or need queries in ``fit``."""
    if attributor._grouped is not None:
        raise ValueError(
            "attributor: got one that scores groups; accepted is an attributor of single examples. "
            "Put the groups around the index: GroupAttributor(AttributionIndex(...))."
        )
    if attributor._asks_queries:
        raise ValueError(
            f"attributor: {type(attributor).__name__} needs examples beyond the training data, "
            f"which an index does not have. Of a fitted search, give its best_attributor_."
        )
