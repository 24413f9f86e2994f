"""Digests of models and data that a folder belongs to, equal in every version of the libraries."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping, Sequence
from types import FunctionType, MethodType
from typing import Any

import numpy as np
import sklearn
import torch
from scipy import sparse
from sklearn.base import BaseEstimator

from influencekit._version import __version__
from influencekit.data._examples import Examples
from influencekit.exceptions import VersionWarning, warn_user
from influencekit.models._task import Task

__all__ = ["check_models", "data_digest", "model_digests", "versions", "warn_of_versions"]

#: Examples that are read at a time.
_ROWS = 4096


def model_digests(tasks: Sequence[Any]) -> list[str]:
    """A digest of each model: weights, loss, classes, penalty, and what its transform learned.

    Parameters
    ----------
    tasks : sequence of Task

    Returns
    -------
    list of str
    """
    return [_model_digest(task) for task in tasks]


def _model_digest(task: Any) -> str:
    sha = hashlib.sha256()
    feed(sha, dict(task.module.state_dict()))
    feed(sha, [type(task.loss).__name__, task.penalty_kind, task.name, list(task.parameters)])
    feed(sha, [dict(task.penalty), task.class_weight, task.classes, task.transform])
    for checkpoint in getattr(task, "checkpoints", ()):
        feed(sha, _model_digest(checkpoint))
    return sha.hexdigest()[:32]


def feed(sha: Any, part: Any, depth: int = 0) -> None:
    """Add to a digest what a part has learned: numbers, texts, arrays, and what holds them."""
    if isinstance(part, torch.Tensor):
        part = part.detach().cpu().float() if part.dtype == torch.bfloat16 else part.detach().cpu()
        part = part.numpy()
    if isinstance(part, (np.ndarray, np.generic)) and part.dtype != object:
        sha.update(f"{part.dtype.str}{part.shape}".encode())
        sha.update(np.ascontiguousarray(part).tobytes())
    elif sparse.issparse(part):
        part = part.tocsr()
        feed(sha, [part.shape, part.data, part.indices, part.indptr], depth)
    elif isinstance(part, Mapping):
        for key in part:
            sha.update(str(key).encode())
            feed(sha, part[key], depth)
    elif isinstance(part, (list, tuple, np.ndarray)):
        sha.update(f"{len(part)}".encode())
        for one in part:
            feed(sha, one, depth)
    elif part is None or isinstance(part, (bool, int, float, str)):
        sha.update(repr(part).encode())
    else:
        _feed_object(sha, part, depth)


def _feed_object(sha: Any, part: Any, depth: int) -> None:
    """Class and, for estimators and methods, what they hold."""
    name = getattr(part, "__qualname__", type(part).__qualname__)
    sha.update(name.encode())
    held = part.__self__ if isinstance(part, MethodType) else part
    inner = isinstance(held, BaseEstimator) or type(held).__module__.startswith("influencekit.")
    if inner and not isinstance(held, FunctionType) and depth < 20:
        state = {k: v for k, v in vars(held).items() if k != "_sklearn_version"}
        feed(sha, state, depth + 1)


def data_digest(examples: Sequence[Examples]) -> str:
    """A digest of training data as the models read them, a few thousand rows at a time.

    Parameters
    ----------
    examples : sequence of Examples
        The same data for each model.

    Returns
    -------
    str
    """
    sha, first = hashlib.sha256(), examples[0]
    if first.source.digest is not None:  # slices, which one pass has read
        feed(sha, [first.source.digest, first.rows, first.targets, first.weights])
        return sha.hexdigest()[:32]
    matrix = first.sparse_matrix
    batches = first.batches(_ROWS) if matrix is None else first.unread(_ROWS)
    for batch in batches:
        inputs = batch.inputs if matrix is None else sparse.csr_array(matrix[batch.inputs])
        feed(sha, [inputs, batch.targets])
    feed(sha, first.weights)
    return sha.hexdigest()[:32]


def versions() -> dict[str, str]:
    """Versions of the libraries that wrote a folder."""
    return {
        "influencekit": __version__,
        "torch": torch.__version__,
        "scikit-learn": sklearn.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def warn_of_versions(folder: Any, written: Any) -> None:
    """Warn if another influencekit or torch wrote a folder."""
    now = versions()
    written = written if isinstance(written, Mapping) else {}
    other = [k for k in ("influencekit", "torch") if str(written.get(k)) != now[k]]
    if other:
        told = " and ".join(f"{k} {str(written.get(k))[:40]} (now {now[k]})" for k in other)
        warn_user(
            f"folder: {str(folder)!r} was written with {told}. What it holds may be read "
            f"differently: compare some scores, or write it again.",
            VersionWarning,
        )


def check_models(tasks: Sequence[Task], saved: Any) -> None:
    """Refuse models other than those that a folder was written for.

    Raises
    ------
    ValueError
    """
    found = model_digests(tasks)
    if found == saved:
        return
    if not isinstance(saved, list) or len(found) != len(saved):
        n = len(saved) if isinstance(saved, list) else 0
        raise ValueError(
            f"model: got {len(found)} model(s), and the folder was written for {n}. Give all of "
            f"them, in the same order."
        )
    place = next(i for i, pair in enumerate(zip(found, saved, strict=True)) if pair[0] != pair[1])
    raise ValueError(
        f"model: {tasks[place].name} is not the one that the folder was written for: its weights, "
        f"loss, penalty or preprocessing differ. Give that model; after further training, an "
        f"AttributionIndex can be made current with refresh(model)."
    )
