"""From fitted objects to a JSON tree and arrays: what an object holds, not how to make it."""

from __future__ import annotations

import functools
import sys
import types
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import nn

from influencekit.data._mapped import from_path
from influencekit.index.files._folder import KINDS, checksum, write_array
from influencekit.index.files._vocabulary import is_algebra, is_known, name_of, parts_of_models
from influencekit.models._task import Task

__all__ = ["Encoder", "NotSaved"]

#: Hooks of a layer, which are functions of the user's or of torch's.
_HOOKS = ("hooks", "_is_full_backward_hook")


class NotSaved(TypeError):
    """Something of a fitted attributor has no safe form in a folder; the message names it."""


class Encoder:
    """Turns what an attributor holds into a tree of JSON, and writes its arrays.

    Numbers, text, containers, arrays and the package's own objects have a form; parts of the
    models are references, because whoever loads gives the models. Everything else is refused.

    Parameters
    ----------
    folder : Path
        Where arrays are written.
    tasks : sequence of Task
        The models.
    """

    def __init__(self, folder: Path, tasks: Iterable[Task]):
        self.folder, self.arrays = folder, []  # type: ignore[var-annotated]
        self.shared = {id(part): path for path, part in parts_of_models(tasks)}
        self.met: dict[int, int] = {}
        self.kept: list[Any] = []  # alive, so that nobody else gets their ids
        self.written: dict[tuple, int] = {}

    def encode(self, value: Any, path: str) -> Any:
        """The tree of a value.

        Parameters
        ----------
        value : object
        path : str
            Where it stands, for messages.

        Returns
        -------
        object
            Of JSON.

        Raises
        ------
        NotSaved
        """
        if value is None or isinstance(value, (bool, int, float, str)):
            return value.item() if isinstance(value, np.generic) else value
        if id(value) in self.shared:
            return {"model": self.shared[id(value)]}
        if id(value) in self.met:
            return {"ref": self.met[id(value)]}
        return self._tree(value, path)

    def class_of(self, value: Any) -> str:
        """The name of an object's class, which whoever loads must have."""
        if not is_known(type(value)):
            raise _refusal(type(value).__name__, "a class of another package", "influencekit's own")
        return name_of(type(value))

    def _number(self, value: Any) -> int:
        self.kept.append(value)
        return self.met.setdefault(id(value), len(self.met))

    def _tree(self, value: Any, path: str) -> dict[str, Any]:
        for kinds, form in self._forms:
            if isinstance(value, kinds):
                return form(self, value, path)
        pandas = sys.modules.get("pandas")
        if pandas is not None and isinstance(value, pandas.Index):
            return {"index": self._labels(value, path), "name": self.encode(value.name, path)}
        if pandas is not None and isinstance(value, (pandas.DataFrame, pandas.Series)):
            return self._frame(value, path)
        return self._object(value, path)

    # -- forms -----------------------------------------------------------------------------

    def _array(self, value: np.ndarray, path: str) -> dict[str, Any]:
        if isinstance(value, np.ma.MaskedArray):
            parts = (np.asarray(value.data), np.ma.getmaskarray(value))
            return {"masked": [self._array(part, path) for part in parts]}
        if value.dtype.kind not in KINDS:
            return {"objects": self._items(value.ravel(), path), "shape": list(value.shape)}
        return {"array": self._write(value), "id": self._number(value)}

    def _write(self, value: np.ndarray) -> int:
        name = self.folder / f"{len(self.arrays)}.npy"
        self.arrays.append({**write_array(name, value), "crc32": checksum(name)})
        return len(self.arrays) - 1

    def _tensor(self, value: torch.Tensor, path: str) -> dict[str, Any]:
        if value.layout != torch.strided:
            raise _refusal(path, f"a tensor of layout {value.layout}", "dense tensors")
        own = self._number(value)
        plain = value.detach().cpu()
        if not (plain.ndim == 2 and plain.mT.is_contiguous()):  # decides bits
            plain = plain.contiguous()
        dtype = str(plain.dtype).removeprefix("torch.")
        if plain.dtype == torch.bfloat16:
            plain = plain.view(torch.int16)
        place = self._write(plain.numpy())
        kind = "parameter" if isinstance(value, nn.Parameter) else "tensor"
        tree = {kind: place, "dtype": dtype, "device": str(value.device), "id": own}
        return {**tree, "requires_grad": value.requires_grad}

    def _sparse(self, value: Any, path: str) -> dict[str, Any]:
        value = value if value.format in ("csr", "csc") else value.tocsr()
        parts = [self._array(part, path) for part in (value.data, value.indices, value.indptr)]
        return {"sparse": type(value).__name__, "shape": list(value.shape), "parts": parts}

    def _items(self, value: Iterable, path: str) -> list[Any]:
        return [self.encode(one, f"{path}[{i}]") for i, one in enumerate(value)]

    def _list(self, value: list, path: str) -> dict[str, Any]:
        return {"id": self._number(value), "list": self._items(value, path)}

    def _tuple(self, value: tuple, path: str) -> dict[str, Any]:
        if type(value) is tuple:
            return {"tuple": self._items(value, path)}
        if not is_known(type(value)):
            raise _refusal(path, _kind(value), "tuples, lists and dicts")
        return {"class": name_of(type(value)), "items": self._items(value, path)}

    def _set(self, value: set, path: str) -> dict[str, Any]:
        return {"set": self._items(sorted(value, key=repr), path)}

    def _dict(self, value: dict, path: str) -> dict[str, Any]:
        if type(value) not in (dict, OrderedDict):
            raise _refusal(path, _kind(value), "plain dicts")
        own = self._number(value)
        pairs = [
            [self.encode(key, path), self.encode(item, f"{path}[{key!r}]")]
            for key, item in value.items()
        ]
        return {"id": own, "dict": pairs}

    def _slice(self, value: slice, path: str) -> dict[str, Any]:
        return {"slice": self._items((value.start, value.stop, value.step), path)}

    def _range(self, value: range, _path: str) -> dict[str, Any]:
        return {"range": [value.start, value.stop, value.step]}

    def _scalar(self, value: np.generic, path: str) -> dict[str, Any]:
        return {"scalar": self._array(np.asarray(value), path)}

    def _state_of_numbers(self, value: np.random.RandomState, path: str) -> dict[str, Any]:
        state = value.get_state(legacy=False)
        return {"random_state": self.encode(state, path)}

    def _partial(self, value: functools.partial, path: str) -> dict[str, Any]:
        parts = {"args": value.args, "keywords": value.keywords}
        trees = {name: self.encode(part, f"{path}.{name}") for name, part in parts.items()}
        return {"partial": self.encode(value.func, path), **trees}

    def _method(self, value: types.MethodType, path: str) -> dict[str, Any]:
        if not is_algebra(value):
            raise _refusal(path, f"the method {value.__qualname__}", "numbers and names")
        return {"method": value.__name__, "of": self.encode(value.__self__, path)}

    def _function(self, value: types.FunctionType, path: str) -> dict[str, Any]:
        if not is_algebra(value):
            named = f"the function {value.__qualname__}"
            raise _refusal(path, named, "names, such as output='margin'")
        return {"function": name_of(value)}

    def _module(self, value: nn.Module, path: str) -> dict[str, Any]:
        if not is_known(type(value)):
            raise _refusal(path, _kind(value), "torch's own layers")
        hooks = [name for name, held in vars(value).items() if name.endswith("_hooks") and held]
        if hooks:
            raise _refusal(f"{path}.{hooks[0]}", "a hook", "layers without hooks")
        state = {k: v for k, v in vars(value).items() if not any(word in k for word in _HOOKS)}
        return self._attributes(value, state, path)

    def _task(self, value: Task, path: str) -> dict[str, Any]:
        """A Task that was made of one of the models: its fields, mostly references."""
        state = {field.name: getattr(value, field.name) for field in fields(value)}
        return self._attributes(value, state, path)

    def _object(self, value: Any, path: str) -> dict[str, Any]:
        if isinstance(value, type):
            raise _refusal(path, f"the class {value.__qualname__}", "names and numbers")
        if not is_known(type(value)):
            raise _refusal(path, f"{_kind(value)} of another package", "arrays and numbers")
        return self._attributes(value, _state(value), path)

    def _attributes(self, value: Any, state: dict, path: str) -> dict[str, Any]:
        own = self._number(value)
        pairs = {name: self.encode(part, f"{path}.{name}") for name, part in state.items()}
        return {"id": own, "class": name_of(type(value)), "state": pairs}

    # -- pandas ----------------------------------------------------------------------------

    def _labels(self, value: Any, path: str) -> dict[str, Any]:
        if value.ndim != 1 or getattr(value, "nlevels", 1) > 1:
            raise _refusal(path, _kind(value), "an index or a column of one level")
        if value.dtype.kind not in KINDS or not isinstance(value.dtype, np.dtype):
            texts = value.tolist()
            if not all(isinstance(one, str) for one in texts):
                raise _refusal(path, f"labels of {value.dtype}", "numbers, dates or text")
            return {"objects": texts, "shape": [len(texts)]}
        return self._array(value.to_numpy(), path)

    def _frame(self, value: Any, path: str) -> dict[str, Any]:
        columns = [value] if value.ndim == 1 else [value.iloc[:, i] for i in range(value.shape[1])]
        names = [value.name] if value.ndim == 1 else list(value.columns)
        parts = [self._labels(c, f"{path}.{n}") for c, n in zip(columns, names, strict=True)]
        index = self._tree(value.index, f"{path}.index")
        return {"frame": parts, "names": self._items(names, path), "ndim": value.ndim, **index}

    _forms: tuple[tuple[Any, Callable], ...] = (
        (np.ndarray, _array),
        (torch.Tensor, _tensor),
        ((sparse.spmatrix, sparse.sparray), _sparse),
        (torch.dtype, lambda _self, value, _path: {"torch_dtype": str(value)[6:]}),
        (torch.device, lambda _self, value, _path: {"device": str(value)}),
        (np.dtype, lambda _self, value, _path: {"numpy_dtype": value.str}),
        (list, _list),
        (tuple, _tuple),
        ((set, frozenset), _set),
        (dict, _dict),
        (slice, _slice),
        (range, _range),
        (np.generic, _scalar),
        (np.random.RandomState, _state_of_numbers),
        (functools.partial, _partial),
        (types.MethodType, _method),
        (types.FunctionType, _function),
        (nn.Module, _module),
        (Task, _task),
    )


def _state(value: Any) -> dict[str, Any]:
    """Attributes of an object, as its class wants them kept."""
    if type(value).__getstate__ is not object.__getstate__:
        found = value.__getstate__()
        if isinstance(found, dict):
            kept = {k: v for k, v in found.items() if k != "_sklearn_version"}
            return from_path(kept)  # a folder holds the data themselves
    if hasattr(value, "__dict__"):
        return dict(vars(value))
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return {}


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}"


def _refusal(path: str, got: str, accepted: str) -> NotSaved:
    return NotSaved(
        f"{path}: got {got}, which cannot be saved without code or pickles; accepted are "
        f"{accepted}. Fit the attributor without it, or keep it with joblib.dump, whose files only "
        "those may open who trust their origin."
    )
