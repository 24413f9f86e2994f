"""Finished work on disk: written completely or not at all, and found again by its inputs."""

from __future__ import annotations

import hashlib
import inspect
import os
import types
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from scipy import sparse
from sklearn.base import BaseEstimator
from skorch import NeuralNet

from influencekit.exceptions import InfluenceKitWarning, warn_user
from influencekit.utils._files import remove_abandoned, whole_file

__all__ = ["OutputCache", "fingerprint"]


def fingerprint(*parts: Any) -> str:
    """Hex digest of data and configuration.

    Arrays, tensors and frames count by value, estimators by class and parameters (not by
    what they learned), functions and classes by name and source.

    Parameters
    ----------
    *parts : any

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If a part does not have a stable description.
    """
    digest = hashlib.sha256()
    for part in parts:
        _feed(digest, part)
    return digest.hexdigest()[:32]


def _feed(digest: Any, part: Any) -> None:
    def tell(*texts: Any) -> None:
        for text in texts:
            data = text if isinstance(text, bytes) else str(text).encode()
            digest.update(f"{len(data)}:".encode())
            digest.update(data)

    if part is None or isinstance(part, (bool, int, float, complex, str, bytes)):
        tell(type(part).__name__, part if isinstance(part, bytes) else repr(part))
    elif isinstance(part, (np.ndarray, np.generic)) and part.dtype != object:
        part = np.asarray(part)
        tell("array", part.dtype.str, part.shape, np.ascontiguousarray(part).tobytes())
    elif isinstance(part, torch.Tensor):
        tell("tensor", part.dtype)
        _feed(digest, part.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        tell(tuple(part.shape))
    elif sparse.issparse(part):
        part = part.tocsr()
        for piece in (part.shape, part.indptr, part.indices, part.data):
            _feed(digest, piece)
    elif isinstance(part, (list, tuple, np.ndarray)):
        tell(type(part).__name__, len(part))
        for item in part:
            _feed(digest, item)
    elif isinstance(part, Mapping):
        tell("mapping", len(part))
        for key in sorted(part, key=repr):
            _feed(digest, key)
            _feed(digest, part[key])
    elif isinstance(part, (BaseEstimator, NeuralNet)):
        tell("estimator")
        _feed(digest, type(part))
        _feed(digest, part.get_params(deep=False))
    elif isinstance(part, torch.nn.Module):
        tell("module", repr(part))
        _feed(digest, type(part))
        _feed(digest, dict(part.state_dict()))
    elif isinstance(part, type) or (callable(part) and hasattr(part, "__qualname__")):
        _feed_code(digest, part, tell)
    else:
        tell("object", joblib.hash(part) if _is_plain(part) else _refuse(part))


def _feed_code(digest: Any, part: Any, tell: Any) -> None:
    """Describe a class or function by name, source and closure."""
    tell("code", part.__qualname__, _source(part))
    for base in getattr(part, "__mro__", ())[1:]:
        known = base.__module__.split(".")[0] in ("builtins", "torch", "skorch", "sklearn", "abc")
        tell(base.__qualname__, "" if known else _source(base))
    function = getattr(part, "__func__", part)
    if isinstance(function, types.FunctionType):
        _feed(digest, function.__defaults__)
        _feed(digest, function.__kwdefaults__)
        _feed(digest, [cell.cell_contents for cell in function.__closure__ or ()])
    if isinstance(part, types.MethodType):
        _feed(digest, part.__self__)


def _source(part: Any) -> str:
    try:
        return inspect.getsource(part)
    except (OSError, TypeError):
        code = getattr(part, "__code__", None)
        if code is None:
            return part.__module__ or ""
        constants = [c for c in code.co_consts if isinstance(c, (int, float, str, bytes))]
        return repr((code.co_code, code.co_names, constants))


def _is_plain(part: Any) -> bool:
    try:
        return joblib.hash(part) is not None
    except Exception:  # whatever a foreign __reduce__ raises
        return False


def _refuse(part: Any) -> str:
    raise ValueError(
        f"cache_dir: a {type(part).__name__} among data or parameters cannot be fingerprinted, "
        "so a later call could not check whether stored results belong to it. "
        "Make it picklable, or leave cache_dir out and keep results with SubsetOutputs.save."
    )


class OutputCache:
    """Float64 tables, such as outputs of retrained models, with one file for each chunk.

    Parameters
    ----------
    directory : path-like
        Created if missing. Several processes may share it.
    key : str
        Fingerprint of everything except the chunk: data, model, output, engine.
    what : str
        Consequence of a damaged chunk, for the warning.
    """

    def __init__(
        self, directory: str | os.PathLike, key: str, what: str = "these models are trained again"
    ):
        self.what = what
        self.folder = Path(directory) / key
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_abandoned(self.folder)

    def load(self, chunk_key: str, shape: tuple[int, int]) -> np.ndarray | None:
        """Outputs of a chunk; None if they are missing or damaged."""
        found = self.load_all(chunk_key, shape)
        return None if found is None else found[0]

    def load_all(
        self, chunk_key: str, shape: tuple[int, int]
    ) -> tuple[np.ndarray, dict[str, np.ndarray]] | None:
        """Outputs of a chunk, and the arrays stored with them; None if missing or damaged."""
        path = self.folder / f"{chunk_key}.npz"
        try:
            with np.load(path, allow_pickle=False) as stored:
                outputs, key = stored["outputs"], str(stored["key"])
                more = {name: stored[name] for name in stored.files if "/" in name}
            if key != chunk_key or outputs.shape != shape or outputs.dtype != np.float64:
                raise ValueError("its content does not match its name")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            text = f"cache_dir: {path.name} cannot be used ({error}); {self.what}."
            warn_user(text, InfluenceKitWarning)
            return None
        return outputs, more

    def store(
        self, chunk_key: str, outputs: np.ndarray, more: Mapping[str, np.ndarray] | None = None
    ) -> None:
        """Write a chunk completely or not at all; names of further arrays hold a slash."""
        arrays: dict[str, Any] = {**(more or {}), "outputs": outputs, "key": np.array(chunk_key)}
        with whole_file(self.folder / f"{chunk_key}.npz") as file:
            np.savez(file, **arrays)
