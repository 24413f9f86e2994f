"""Ground truth on disk: arrays without pickles, and a recipe in JSON beside them."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from influencekit.datasets._bunch import get_data_home
from influencekit.datasets._truth_language import FACTS, N_SENTENCES, PASSAGES, is_language
from influencekit.utils._archives import DamagedFile, read_arrays
from influencekit.utils._files import whole_file
from influencekit.utils._suggest import did_you_mean

__all__ = [
    "find_folder",
    "found_truths",
    "packed",
    "read_truth",
    "recipe_digest",
    "unpacked",
    "write_truth",
]

#: Format 1 had no checksum of the recipe.
FORMAT, FORMATS = 2, (1, 2)
LARGEST_RECIPE = 2**18
LARGEST_ARRAYS = 2**28
LARGEST_TABLE = 2**31
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
#: Entries that every recipe has, with their types.
ENTRIES = {
    "format": int, "name": str, "source": str, "model": dict, "output": str, "n_train": int,
    "n_query": int, "license": str,
}  # fmt: skip
#: Kind of an array's numbers, and its axes: a size, a name of one, or None for any.
Shape = tuple[str, tuple[int | str | None, ...]]
#: Arrays that every truth has.
ARRAYS: dict[str, Shape] = {
    "train": ("i", ("n_train",)),
    "query": ("i", ("n_query",)),
    "query_means": ("f", (None,)),
    "predictions": ("f", ("n_query", None)),
    "halves.masks": ("u", ("n_halves", "n_bytes")),
    "halves.outputs": ("f", ("n_halves", None, "n_query")),
    "without.masks": ("u", ("n_without", "n_bytes")),
    "without.outputs": ("f", ("n_without", None, "n_query")),
    "groups.masks": ("u", ("n_groups", "n_bytes")),
    "groups.outputs": ("f", ("n_groups", None, "n_query")),
    "single.rows": ("i", ("n_single",)),
    "single.changes": ("f", ("n_query", "n_single")),
}
#: Arrays of every truth of rows with labels, and of every truth of a language model.
PLANTED: dict[str, Shape] = {
    "planted.flipped": ("i", ("n_flipped",)),
    "planted.labels": ("f", ("n_flipped",)),
    "planted.copied": ("i", ("n_copied",)),
    "planted.queries": ("i", ("n_copied",)),
    "planted.predictions": ("f", ("n_query", None)),
}
OF_LANGUAGE: dict[str, Shape] = {
    "facts.rows": ("i", (N_SENTENCES,)),
    "facts.predictions": ("f", (len(FACTS), 1)),
}
#: Arrays of parts that a truth may lack; those of a part come together.
PARTS: dict[str, dict[str, Shape]] = {
    "further": {
        "further.masks": ("u", ("n_further", "n_bytes")),
        "further.outputs": ("f", ("n_further", None, "n_query")),
    },
    "shortcut": {
        "shortcut.marked": ("i", ("n_marked",)),
        "shortcut.queries": ("i", ("n_shown",)),
        "shortcut.label": ("f", (1,)),
        "shortcut.predictions": ("f", ("n_shown", None)),
    },
}
#: Arrays with the names and shapes of a model's parameters.
OF_MODELS = re.compile(r"((?:planted|shortcut|facts)\.)?(weights|checkpoints\.\d{1,4})\.\w[\w.]*")
OUTPUTS = ("margin", "neg_loss")


def packed(masks: NDArray) -> NDArray:
    """Eight booleans in a byte, along the last axis."""
    return np.packbits(masks, axis=-1)


def unpacked(bits: NDArray, n: int) -> NDArray:
    """Booleans (n_subsets, n) of `packed` ones."""
    return np.unpackbits(bits, axis=-1, count=n).astype(bool)


def find_folder(name: str, data_home: str | os.PathLike | None) -> Path:
    """Folder that holds a ground truth.

    Raises
    ------
    ValueError
        If the name is not one that a truth can have.
    OSError
        If no folder holds it.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(
            f"name: got {name!r}; accepted are names of small letters, digits and hyphens, such as "
            "'wine-linear'."
        )
    places = _places(data_home)
    for place in places:
        if (place / f"{name}.json").is_file() and (place / f"{name}.npz").is_file():
            return place
    known = names_in(places)
    tried = ", ".join(map(str, places))
    there = f"There are {', '.join(known)}." if known else "There are none."
    raise OSError(
        f"name: no ground truth {name!r} in {tried}. {there}{did_you_mean(name, known)} The files "
        "come with the repository (benchmarks/atlas/truths): name that folder in data_home, or "
        "make them there by `python -m benchmarks atlas make`."
    )


def found_truths(data_home: str | os.PathLike | None = None) -> list[str]:
    """Names of the ground truth that is in the data folder or in a clone."""
    return names_in(_places(data_home))


def names_in(places: list[Path]) -> list[str]:
    """Names of the pairs of files in some folders."""
    found = {p.stem for place in places for p in place.glob("*.npz") if NAME.fullmatch(p.stem)}
    return sorted(n for n in found if any((place / f"{n}.json").is_file() for place in places))


def _places(data_home: str | os.PathLike | None) -> list[Path]:
    """Folders that are searched: below the data folder, then those of a clone."""
    home, clone = get_data_home(data_home), Path(__file__).resolve().parents[2]
    ways = ("", "atlas", "truths", "benchmarks/atlas/truths", "atlas/truths")
    places = [*(home / way for way in ways), clone / "benchmarks" / "atlas" / "truths"]
    return [place for place in dict.fromkeys(places) if place.is_dir()] or [home]


def write_truth(folder: str | os.PathLike, recipe: dict, arrays: dict[str, NDArray]) -> None:
    """Write ``NAME.npz`` and then ``NAME.json``, which says that the arrays are whole."""
    told = {key: value for key, value in recipe.items() if key not in ("format", "sha256")}
    recipe = {"format": FORMAT, **told}
    recipe["sha256"] = recipe_digest(recipe)
    found = {key: np.asarray(value) for key, value in arrays.items()}
    check_truth(recipe, found, recipe["name"])
    base = Path(folder)
    base.mkdir(parents=True, exist_ok=True)
    partial = base / f"{recipe['name']}.partial.npz"
    np.savez_compressed(partial, **found)  # type: ignore[arg-type]
    partial.replace(base / f"{recipe['name']}.npz")
    text = json.dumps(recipe, indent=1, ensure_ascii=False) + "\n"
    with whole_file(base / f"{recipe['name']}.json") as file:
        file.write(text.encode())


def recipe_digest(recipe: dict[str, Any]) -> str:
    """SHA-256 of all entries of a recipe other than itself."""
    told = {key: value for key, value in recipe.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def read_truth(folder: Path, name: str) -> tuple[dict[str, Any], dict[str, NDArray]]:
    """Recipe and arrays, after every entry was checked.

    Raises
    ------
    ValueError
        If a file does not hold what was written.
    ResourceError
        If the arrays would unpack to more than 256 MiB.
    """
    try:
        recipe = _recipe(folder / f"{name}.json")
        arrays = read_arrays(folder / f"{name}.npz", LARGEST_ARRAYS)
        check_truth(recipe, arrays, name)
    except DamagedFile as error:
        raise ValueError(f"name: {error}. Take the files from the repository again.") from error
    return recipe, arrays


def _recipe(path: Path) -> dict[str, Any]:
    if path.stat().st_size > LARGEST_RECIPE:
        raise DamagedFile(f"{path} is not a recipe (it has more than {LARGEST_RECIPE:,} bytes)")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{path} is not JSON ({error})") from error
    if not isinstance(found, dict):
        raise DamagedFile(f"{path} is not a recipe (it holds a {type(found).__name__})")
    return found


def check_truth(recipe: dict, arrays: dict[str, NDArray], name: str) -> None:
    """Refuse entries and arrays that no truth has, and such as do not belong together.

    Raises
    ------
    DamagedFile
    """
    reason = _reason_of_recipe(recipe, name) or _reason_of_arrays(recipe, arrays)
    if reason:
        raise DamagedFile(f"the ground truth {name} is damaged or of another kind ({reason})")


def _reason_of_recipe(recipe: dict, name: str) -> str:
    for entry, wanted in ENTRIES.items():
        if not isinstance(recipe.get(entry), wanted) or isinstance(recipe[entry], bool):
            return f"its recipe has no {entry} of type {wanted.__name__}"
    if recipe["format"] not in FORMATS:
        return f"format {recipe['format']}, this version reads 1 and {FORMAT}"
    if recipe["output"] not in OUTPUTS or min(recipe["n_train"], recipe["n_query"]) < 1:
        return f"output {recipe['output']!r}, {recipe['n_train']} and {recipe['n_query']} rows"
    if is_language(recipe["model"]) != (recipe["source"] == PASSAGES):
        return f"a model of kind {recipe['model'].get('kind')!r} of {recipe['source']!r}"
    if recipe["name"] != name:
        return f"its recipe is that of {recipe['name']!r}"
    changed = recipe["format"] > 1 and recipe.get("sha256") != recipe_digest(recipe)
    return "its recipe does not have the checksum that it was written with" if changed else ""


def _reason_of_arrays(recipe: dict, arrays: dict[str, NDArray]) -> str:
    n, m = recipe["n_train"], recipe["n_query"]
    sizes = {"n_train": n, "n_query": m, "n_bytes": -(-n // 8)}
    known = {**ARRAYS, **(OF_LANGUAGE if is_language(recipe["model"]) else PLANTED)}
    for part in PARTS.values():
        known |= part if arrays.keys() & part.keys() else {}
    reasons = [_reason_of_shape(*entry, arrays.get(entry[0]), sizes) for entry in known.items()]
    for key, array in arrays.items():
        if key not in known and not OF_MODELS.fullmatch(key):
            reasons.append(f"an array {key!r} that no truth has")
        elif array.dtype.kind not in "iuf" or not np.isfinite(array).all():
            reasons.append(f"{key} holds {array.dtype} or numbers that are not finite")
    limits = {"train": LARGEST_TABLE, "query": LARGEST_TABLE, "planted.queries": m,
              "single.rows": n, "planted.flipped": n, "planted.copied": n,
              "shortcut.marked": n, "shortcut.queries": m, "facts.rows": n}  # fmt: skip
    for key, limit in limits.items():
        if key in arrays and not ((arrays[key] >= 0) & (arrays[key] < limit)).all():
            reasons.append(f"{key} has positions that are not from 0 to {limit - 1}")
    return next(filter(None, reasons), "")


def _reason_of_shape(key: str, wanted: Shape, array: NDArray | None, sizes: dict[str, int]) -> str:
    """What is wrong with an array; an axis of a name that is new gets its size here."""
    kind, axes = wanted
    if array is None:
        return f"no array {key}"
    if array.dtype.kind != kind or array.ndim != len(axes):
        return f"{key} is {array.dtype} with {array.ndim} axes"
    for axis, size in zip(axes, array.shape, strict=True):
        if isinstance(axis, int) and size != axis:
            return f"{key} has shape {array.shape}, not {axes}"
        if isinstance(axis, str) and size != sizes.setdefault(axis, size):
            return f"{key} has shape {array.shape}, {axis} is {sizes[axis]}"
    return ""
