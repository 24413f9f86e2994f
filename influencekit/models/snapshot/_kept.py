"""Attributes of a module that a forward pass changes, and putting them back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

__all__ = ["Attributes", "put_back"]

#: What torch itself keeps on a module.
_TORCHS = ("_parameters", "_buffers", "_modules", "training")


class Attributes:
    """The plain attributes of a module and its parts, and what is in their containers.

    Parameters
    ----------
    module : torch.nn.Module
    """

    def __init__(self, module: nn.Module):
        self._parts = [(part, _own(part)) for part in module.modules()]
        self._contents: dict[int, tuple[Any, Any]] = {}
        for _, attributes in self._parts:
            for value in attributes.values():
                self._note(value)

    def _note(self, value: Any) -> None:
        if isinstance(value, (dict, list, set)) and id(value) not in self._contents:
            self._contents[id(value)] = value, value.copy()
            for item in value.values() if isinstance(value, dict) else value:
                self._note(item)

    def put_back(self) -> None:
        """Give the module the attributes that it had."""
        for part, attributes in self._parts:
            for name in _own(part).keys() - attributes.keys():
                vars(part).pop(name)
            vars(part).update(attributes)
        for container, content in self._contents.values():
            container.clear()
            (container.extend if isinstance(container, list) else container.update)(content)

    def holds_a_graph(self) -> bool:
        """Whether the module now holds tensors that a forward pass computed with gradients."""
        return any(_has_graph(value) for part, _ in self._parts for value in _own(part).values())


@contextmanager
def put_back(module: nn.Module) -> Iterator[None]:
    """Put attributes of a module back after the block."""
    attributes = Attributes(module)
    try:
        yield
    finally:
        attributes.put_back()


def _own(part: nn.Module) -> dict[str, Any]:
    return {
        name: value
        for name, value in vars(part).items()
        if name not in _TORCHS and not name.endswith("_hooks") and "_hooks_" not in name
    }


def _has_graph(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.grad_fn is not None
    if isinstance(value, (dict, list, tuple, set)):
        return any(map(_has_graph, value.values() if isinstance(value, dict) else value))
    return False
