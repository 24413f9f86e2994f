"""Fitted attributors in folders: arrays and a manifest, without pickles."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from influencekit.base import BaseAttributor
from influencekit.data._examples import each
from influencekit.index._updates import ChangedIndex
from influencekit.index.files._decode import Decoder
from influencekit.index.files._encode import Encoder, NotSaved
from influencekit.index.files._fingerprints import (
    check_models,
    model_digests,
    versions,
    warn_of_versions,
)
from influencekit.index.files._folder import new_folder, read_manifest, write_manifest
from influencekit.models._task import TaskList
from influencekit.utils._archives import DamagedFile
from influencekit.utils._arguments import check_path
from influencekit.utils._torch import with_gradients

__all__ = ["load", "save"]

FORMAT, VERSION = "influencekit attributor", 1
#: What is read from the model again, and the data that tables show, which may be left out.
_OF_MODELS, _SHOWN = ("_models", "task_"), "_given"


@with_gradients
def save(attributor: BaseAttributor, folder: str | os.PathLike) -> None:
    """Keep a fitted attributor in a folder, as arrays and one manifest, without pickles.

    Parameters
    ----------
    attributor : attributor
        Fitted.  What it holds is written: its settings, what it learned, and the training data
        that it reads again when it scores.  The model is not: :func:`load` is given it.
    folder : path-like
        A new folder, or an empty one.

    Raises
    ------
    TypeError
        If it holds something that has no safe form, such as a function as ``output``, or a torch
        Dataset; the message names it.
    FileExistsError
        If the folder holds files.

    Notes
    -----
    A ``.npy`` file for each array, and ``manifest.json`` with the version of the format, those of
    the libraries, digests of the models, and everything else as JSON. The manifest is written
    last: a folder without one is unfinished.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from influencekit import InfluenceFunction
    >>> from influencekit.index import load, save
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LogisticRegression(max_iter=1000).fit(X, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(InfluenceFunction().fit(model, X, y), folder)
    ...     load(folder, model).score(X[:2], y[:2]).shape
    (2, 150)
    """
    if not isinstance(attributor, BaseAttributor):
        raise TypeError(
            f"attributor: got {type(attributor).__name__}; accepted is a fitted attributor."
        )
    check_is_fitted(attributor, "fitted_")
    if isinstance(attributor, ChangedIndex):
        raise TypeError(
            "attributor: an AttributionIndex is in a folder already; open that one, by "
            "AttributionIndex.open(folder, model)."
        )
    with new_folder(folder) as path:
        write_manifest(path, _described(attributor, path))


def _described(attributor: BaseAttributor, path: Path) -> dict[str, Any]:
    """The manifest of an attributor, after its arrays were written."""
    tasks = each(attributor._models)
    encoder = Encoder(path, tasks)
    name = type(attributor).__name__
    settings = clone(attributor).get_params(deep=False)
    elsewhere = (*settings, *_OF_MODELS, _SHOWN)
    state = {k: v for k, v in vars(attributor).items() if k not in elsewhere}
    return {
        "format": FORMAT,
        "format_version": VERSION,
        "versions": versions(),
        "models": model_digests(tasks),
        "several": isinstance(attributor._models, TaskList),
        "class": encoder.class_of(attributor),
        "settings": {k: encoder.encode(v, f"{name}.{k}") for k, v in settings.items()},
        "state": {k: encoder.encode(v, f"{name}.{k}") for k, v in state.items()},
        "shown": _shown(encoder, vars(attributor).get(_SHOWN)),
        "arrays": encoder.arrays,
    }


def _shown(encoder: Encoder, given: Any) -> Any:
    """The training data that ``top_k(as_frame=True)`` shows, where they have a form."""
    try:
        return encoder.encode(given, "X")
    except NotSaved:
        return None


@with_gradients
def load(folder: str | os.PathLike, model: Any) -> Any:
    """Read an attributor that :func:`save` wrote.

    Parameters
    ----------
    folder : path-like
    model : fitted model, Task, or list of them
        The model that the attributor was fitted to, compared by a digest of its weights.

    Returns
    -------
    attributor
        Fitted. Its arrays are mapped from the files, which must stay.

    Raises
    ------
    ValueError
        If the folder is damaged or of another format, or the model is another one.

    Warns
    -----
    VersionWarning
        If another version of influencekit or torch wrote the folder.

    Notes
    -----
    Nothing is unpickled, no link is followed, and every file is compared with what the manifest
    says of it before it is read. The manifest can name classes of this package only.
    """
    check_path("folder", folder)
    path = Path(folder)
    manifest = read_manifest(path, FORMAT, VERSION)
    warn_of_versions(path, manifest.get("versions"))
    try:
        return _read(path, manifest, model)
    except RecursionError:
        raise DamagedFile(f"{path} is damaged: its manifest is nested without end") from None


def _read(path: Path, manifest: dict[str, Any], model: Any) -> Any:
    decoder = Decoder(path, manifest.get("arrays"))
    attributor = decoder.empty(manifest.get("class"), BaseAttributor)
    settings = {k: decoder.decode(v) for k, v in _named(manifest, "settings")}
    vars(attributor).update(settings)
    models = attributor._read_models(model, (), None)
    if isinstance(models, TaskList) != manifest.get("several"):
        raise ValueError(
            "model: got one model where the folder was written for a list, or a list where it was "
            "written for one. Give what fit was given."
        )
    decoder.tasks = each(models)
    check_models(decoder.tasks, manifest.get("models"))
    state = {k: decoder.decode(v) for k, v in _named(manifest, "state")}
    vars(attributor).update(state)
    shown = decoder.decode(manifest.get("shown"))
    shown = shown if isinstance(shown, tuple) and len(shown) == 2 else (None, None)
    vars(attributor).update({"_models": models, "task_": decoder.tasks[0], _SHOWN: shown})
    return attributor


def _named(manifest: dict[str, Any], part: str) -> Any:
    """Names and values of a part of a manifest."""
    found = manifest.get(part)
    if not isinstance(found, dict):
        raise DamagedFile(f"the manifest is damaged: its {part} has no names")
    return found.items()
