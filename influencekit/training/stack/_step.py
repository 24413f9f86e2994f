"""One optimizer step for a whole stack, and how the optimizer is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

__all__ = ["OptimizerSpec", "ParameterGroup", "StackedStep", "groups_of"]


_NOT_OPTIONS = ("params", "param_names")

#: Entries of an optimizer's state that count steps: one number for any parameter shape.
_COUNTERS = ("step", "mu_product")


@dataclass(frozen=True)
class ParameterGroup:
    """Names of parameters, and their options.

    Parameters
    ----------
    names : tuple of str
    options : dict
    """

    names: tuple[str, ...]
    options: dict[str, Any]


@dataclass(frozen=True)
class OptimizerSpec:
    """An elementwise optimizer without its tensors.

    Parameters
    ----------
    cls : type
    groups : tuple of ParameterGroup
    state : dict of parameter name to dict
        Initial state of the optimizer; empty for a new one.
    decays : bool
        Whether the optimizer has a requested weight decay, which replaces the task's penalty.
    """

    cls: Any
    groups: tuple[ParameterGroup, ...]
    state: dict[str, dict[str, Any]] = field(default_factory=dict)
    decays: bool = False

    def build(self, stacked: Mapping[str, Tensor]) -> Optimizer:
        """Make the optimizer of stacked parameters.

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
    """Groups of an optimizer, with the parameters that have names.

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


@dataclass(eq=False)
class StackedStep:
    """Updates every model of a stack by one step of its optimizer.

    Parameters
    ----------
    parameters : mapping of str to Tensor of shape (n_models, ...)
        Changed in place.
    optimizer : torch.optim.Optimizer
        An elementwise optimizer of these parameters.
    penalty : mapping of str to Tensor, default={}
        Strengths, broadcastable to the parameters: ``r θ`` is added to the gradient.
    max_norm : float or None, default=None
        Norm to which every model's gradient is clipped, as ``clip_grad_norm_`` does.
    """

    parameters: Mapping[str, Tensor]
    optimizer: Optimizer
    penalty: Mapping[str, Tensor] = field(default_factory=dict)
    max_norm: float | None = None

    def __post_init__(self) -> None:
        self.parameters = {name: p for name, p in self.parameters.items() if p.requires_grad}

    def __call__(self, value: Tensor) -> None:
        """Take one step.

        Parameters
        ----------
        value : Tensor, a scalar
            Sum of the models' objectives without the penalty.
        """
        own = list(self.parameters.values())
        gradients = torch.autograd.grad(value, own, allow_unused=True)
        with torch.no_grad():
            for (name, p), gradient in zip(self.parameters.items(), gradients, strict=True):
                if gradient is not None and name in self.penalty:
                    gradient = gradient + self.penalty[name] * p
                p.grad = gradient
            if self.max_norm is not None:
                self._clip([p for p in own if p.grad is not None])
        self.optimizer.step()

    def _clip(self, parameters: list[Tensor]) -> None:
        """Scale each model's gradient as clip_grad_norm_ does for a model alone."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        norms = torch.stack([g.flatten(1).norm(dim=1) for g in gradients]).norm(dim=0)
        factor = (self.max_norm / (norms + 1e-6)).clamp(max=1.0)
        for p in parameters:
            p.grad = p.grad * factor.reshape(-1, *[1] * (p.ndim - 1))
