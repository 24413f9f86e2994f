"""From a JSON tree and arrays to fitted objects: no code runs but that of the package's classes."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import nn

from influencekit.index.files._folder import map_array
from influencekit.index.files._vocabulary import class_named, follow, function_named, is_algebra
from influencekit.models._task import Task
from influencekit.utils._archives import DamagedFile
from influencekit.utils._optional import import_optional

__all__ = ["Decoder"]

_DTYPES = {str(d)[6:]: d for d in vars(torch).values() if isinstance(d, torch.dtype)}
_SPARSE = {"csr_matrix", "csc_matrix", "csr_array", "csc_array"}


class Decoder:
    """Makes objects of a tree by :class:`~influencekit.index.files._encode.Encoder`.

    Parameters
    ----------
    folder : Path
        Where the arrays are.
    arrays : list of dict
        What the manifest says of them.
    tasks : sequence of Task
        The models, for references.
    """

    def __init__(self, folder: Path, arrays: Any, tasks: Sequence[Task] = ()):
        if not isinstance(arrays, list):
            raise DamagedFile("the manifest does not list its arrays")
        self.folder, self.arrays, self.tasks = folder, arrays, tasks
        self.made: dict[Any, Any] = {}

    def decode(self, tree: Any) -> Any:
        """The object of a tree.

        Raises
        ------
        DamagedFile
            If the tree is none of an encoder, or a file is not what the manifest says.
        """
        if tree is None or isinstance(tree, (bool, int, float, str)):
            return tree
        form = self._form(tree)
        try:
            return form(self, tree)
        except DamagedFile:
            raise
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise DamagedFile(
                f"the manifest is damaged ({type(error).__name__}: {error} in {str(tree)[:100]})"
            ) from error

    def empty(self, name: Any, kind: type) -> Any:
        """An object of a class of some kind, by its name, without its attributes."""
        cls: Any = class_named(name)
        if not issubclass(cls, kind):
            raise DamagedFile(f"the manifest names {name!r}, which is no {kind.__name__}")
        return cls.__new__(cls)

    def _form(self, tree: Any) -> Callable:
        if isinstance(tree, Mapping):
            for name, form in self._forms.items():
                if name in tree:
                    return form
        raise DamagedFile(f"the manifest holds what no encoder wrote: {str(tree)[:100]}")

    def _made(self, tree: Mapping, value: Any) -> Any:
        if "id" in tree:
            self.made[tree["id"]] = value
        return value

    # -- forms -----------------------------------------------------------------------------

    def _file(self, place: Any) -> np.ndarray:
        if type(place) is not int or not 0 <= place < len(self.arrays):
            raise DamagedFile(f"the manifest refers to the array {str(place)[:20]}, which is none")
        return map_array(self.folder, self.arrays[place])

    def _array(self, tree: Mapping) -> np.ndarray:
        return self._made(tree, self._file(tree["array"]))

    def _tensor(self, tree: Mapping) -> torch.Tensor:
        found = torch.from_numpy(np.asarray(self._file(tree["tensor"])))
        dtype = _DTYPES[tree["dtype"]]
        found = found.view(dtype) if dtype == torch.bfloat16 else found.to(dtype)
        found = found.to(tree["device"])
        return self._made(tree, found.requires_grad_(bool(tree["requires_grad"])))

    def _parameter(self, tree: Mapping) -> nn.Parameter:
        plain = {**tree, "tensor": tree["parameter"], "requires_grad": False}
        found = nn.Parameter(self._tensor(plain), requires_grad=bool(tree["requires_grad"]))
        return self._made(tree, found)

    def _objects(self, tree: Mapping) -> np.ndarray:
        found = np.empty(len(tree["objects"]), dtype=object)
        found[:] = self.decode_all(tree["objects"])
        return found.reshape(tree["shape"])

    def _sparse(self, tree: Mapping) -> Any:
        if tree["sparse"] not in _SPARSE:
            raise DamagedFile(f"the manifest names the matrix {str(tree['sparse'])[:40]!r}")
        parts = tuple(np.asarray(self.decode(part)) for part in tree["parts"])
        found = getattr(sparse, tree["sparse"])(parts, shape=tuple(tree["shape"]))
        found.check_format(full_check=True)
        return found

    def _list(self, tree: Mapping) -> list:
        found = self._made(tree, [])
        found.extend(map(self.decode, tree["list"]))
        return found

    def _dict(self, tree: Mapping) -> dict:
        found = self._made(tree, {})
        found.update({self.decode(key): self.decode(value) for key, value in tree["dict"]})
        return found

    def _random_state(self, tree: Mapping) -> np.random.RandomState:
        found = np.random.RandomState()
        found.set_state(self.decode(tree["random_state"]))
        return found

    def _partial(self, tree: Mapping) -> functools.partial:
        inner = self.decode(tree["partial"])
        if not is_algebra(inner):
            raise DamagedFile("the manifest holds a call of what does not only compute")
        return functools.partial(inner, *self.decode(tree["args"]), **self.decode(tree["keywords"]))

    def _method(self, tree: Mapping) -> types.MethodType:
        found = getattr(self.decode(tree["of"]), tree["method"])
        if not isinstance(found, types.MethodType) or not is_algebra(found):
            raise DamagedFile(f"the manifest names the method {str(tree['method'])[:40]!r}")
        return found

    def _object(self, tree: Mapping) -> Any:
        cls: Any = class_named(tree["class"])
        if "items" in tree:
            return tuple.__new__(cls, map(self.decode, tree["items"]))
        found = self._made(tree, cls.__new__(cls))
        if isinstance(found, nn.Module):
            nn.Module.__init__(found)
        state = {str(name): self.decode(part) for name, part in tree["state"].items()}
        set_state = getattr(cls, "__setstate__", None)
        if set_state is not None and set_state.__module__.startswith("influencekit."):
            found.__setstate__(state)
        elif hasattr(found, "__dict__"):
            vars(found).update(state)
        else:
            for name, part in state.items():
                object.__setattr__(found, name, part)
        return found

    # -- pandas ----------------------------------------------------------------------------

    def _index(self, tree: Mapping) -> Any:
        pandas = import_optional("pandas", "load")
        return pandas.Index(self.decode(tree["index"]), name=self.decode(tree["name"]))

    def _frame(self, tree: Mapping) -> Any:
        pandas = import_optional("pandas", "load")
        parts, names = [self.decode(part) for part in tree["frame"]], self.decode_all(tree["names"])
        index = self._index(tree)
        if tree["ndim"] == 1:
            return pandas.Series(parts[0], index, name=names[0])
        found = pandas.DataFrame(dict(enumerate(parts)), index)
        found.columns = names
        return found

    def decode_all(self, trees: Any) -> list:
        """The objects of several trees."""
        return [self.decode(tree) for tree in trees]

    #: By the key that tells the form; the first that a tree has.
    _forms: Mapping[str, Callable] = {
        "ref": lambda self, tree: self.made[tree["ref"]],
        "model": lambda self, tree: follow(self.tasks, tree["model"]),
        "class": _object,
        "frame": _frame,
        "index": _index,
        "objects": _objects,
        "sparse": _sparse,
        "scalar": lambda self, tree: self.decode(tree["scalar"])[()],
        "array": _array,
        "tensor": _tensor,
        "parameter": _parameter,
        "torch_dtype": lambda _self, tree: _DTYPES[tree["torch_dtype"]],
        "numpy_dtype": lambda _self, tree: np.dtype(tree["numpy_dtype"]),
        "device": lambda _self, tree: torch.device(tree["device"]),
        "list": _list,
        "tuple": lambda self, tree: tuple(self.decode_all(tree["tuple"])),
        "set": lambda self, tree: set(self.decode_all(tree["set"])),
        "dict": _dict,
        "slice": lambda self, tree: slice(*self.decode_all(tree["slice"])),
        "range": lambda _self, tree: range(*tree["range"]),
        "random_state": _random_state,
        "partial": _partial,
        "method": _method,
        "function": lambda _self, tree: function_named(tree["function"]),
        "masked": lambda self, tree: np.ma.MaskedArray(*self.decode_all(tree["masked"])),
    }
