"""An optimiser without its tensors, and what it makes of stacked parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

__all__ = ["OptimizerSpec", "ParameterGroup", "groups_of"]

_NOT_OPTIONS = ("params", "param_names")

#: Entries of an optimiser's state that count steps: one number, whatever the parameter's shape.
_COUNTERS = ("step", "mu_product")


@dataclass(frozen=True)
class ParameterGroup:
    """Names of parameters and the options that hold for them.

    Parameters
    ----------
    names : tuple of str
    options : dict
    """

    names: tuple[str, ...]
    options: dict[str, Any]


@dataclass(frozen=True)
class OptimizerSpec:
    """An elementwise optimiser without its tensors.

    Parameters
    ----------
    cls : type
    groups : tuple of ParameterGroup
    state : dict of parameter name to dict
        Where the optimiser starts; empty for a fresh one.
    decays : bool
        Whether a weight decay was asked of the optimiser, in place of the task's penalty.
    """

    cls: Any
    groups: tuple[ParameterGroup, ...]
    state: dict[str, dict[str, Any]] = field(default_factory=dict)
    decays: bool = False

    def build(self, stacked: Mapping[str, Tensor]) -> Optimizer:
        """Make the optimiser of stacked parameters.

        Parameters
        ----------
        stacked : mapping of parameter name to Tensor of shape (n_models, ...)

        Returns
        -------
        torch.optim.Optimizer
        """
        optimizer = self.cls(
            [{"params": [stacked[n] for n in g.names], **g.options} for g in self.groups]
        )
        for name, state in self.state.items():
            optimizer.state[stacked[name]] = {
                key: _stacked(key, value, stacked[name]) for key, value in state.items()
            }
        return optimizer


def _stacked(key: str, value: Any, parameter: Tensor) -> Any:
    if not isinstance(value, Tensor):
        return value
    if key in _COUNTERS or value.shape != parameter.shape[1:]:
        return value.clone()
    return value.expand(parameter.shape).clone()


def groups_of(optimizer: Optimizer, names: Mapping[int, str]) -> tuple[ParameterGroup, ...]:
    """Groups of an optimiser, with the parameters that have names.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
    names : mapping of int to str
        Name of a parameter by its ``id``.

    Returns
    -------
    tuple of ParameterGroup
    """
    found = []
    for group in optimizer.param_groups:
        mine = tuple(names[id(p)] for p in group["params"] if id(p) in names)
        options = {key: value for key, value in group.items() if key not in _NOT_OPTIONS}
        if mine:
            found.append(ParameterGroup(mine, options))
    return tuple(found)
