"""A model's outputs as a function of parameters in a dtype of at least float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from influencekit.models._task import Task
from influencekit.utils._torch import map_tensors

__all__ = ["WideForward", "product_dtype"]

#: Relative rounding of outputs above which a model computes in half precision somewhere.
_COARSE = 1e-3


@torch.no_grad()
def product_dtype(task: Task, first: Any, max_memory: int) -> torch.dtype:
    """The dtype for products with curvature matrices: float64 under autocast, else the task's.

    A model whose forward autocasts float32 to half precision leaves float64 alone.

    Parameters
    ----------
    task : Task
    first : tensor, tuple or dict of tensors
        Inputs of an example.
    max_memory : int
        Bytes for a copy of the parameters in float64.

    Returns
    -------
    torch.dtype
    """
    if task.dtype == torch.float64 or 32 * task.n_parameters > max_memory:
        return task.dtype
    own = WideForward(task, task.dtype, first)
    exact = WideForward(task, torch.float64, first)
    if not exact.is_wide:
        return task.dtype
    outputs = exact(first)(exact.parameters).double()
    off = (own(first)(own.parameters) - outputs).abs().max()
    return torch.float64 if bool(off > _COARSE * outputs.abs().max()) else task.dtype


class WideForward:
    """Natural outputs of a batch as a function of the parameters, computed in one dtype.

    A model in half precision runs with wider copies of its parameters, buffers and inputs: second
    derivatives in half precision would be noise. Where its forward allows no other dtype, it runs
    in its own, and only parameters and outputs are wide.

    Parameters
    ----------
    task : Task
    dtype : torch.dtype
    first : tensor, tuple or dict of tensors
        Inputs of an example, to try whether the model runs in the dtype.

    Attributes
    ----------
    parameters : dict of str to Tensor
        Trainable parameters in the dtype.
    is_wide : bool
        Whether the model itself runs in the dtype.
    casts : bool
        Whether parameters or buffers of the model have another dtype.
    """

    def __init__(self, task: Task, dtype: torch.dtype, first: Any):
        self.task, self.dtype = task, dtype
        self.parameters = {k: p.detach().to(dtype) for k, p in task.parameters.items()}
        module = task.module
        others = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        self._others = {
            k: t.detach().to(dtype)
            for k, t in others.items()
            if k not in self.parameters and t.is_floating_point() and t.dtype != dtype
        }
        own = [p.dtype for p in task.parameters.values()]
        self.casts = bool(self._others) or any(kind != dtype for kind in own)
        self.is_wide = not self.casts or self._runs(first)

    @property
    def n_bytes(self) -> int:
        """Bytes of all trainable parameters."""
        return sum(p.numel() * p.element_size() for p in self.parameters.values())

    def _runs(self, inputs: Any) -> bool:
        self.is_wide = True
        try:
            with torch.no_grad():
                self(inputs)(self.parameters)
        except (RuntimeError, TypeError, ValueError):
            return False
        return True

    def __call__(self, inputs: Any) -> Callable[[dict[str, Tensor]], Tensor]:
        """Outputs of a batch as a function of the parameters."""
        task = self.task
        if not self.casts:
            return lambda parameters: task.forward(inputs, parameters)
        if self.is_wide:
            wide = map_tensors(self._cast, inputs)
            return lambda parameters: task.forward(wide, {**self._others, **parameters})
        own = {k: p.dtype for k, p in task.parameters.items()}
        return lambda parameters: task.forward(
            inputs, {k: p.to(own[k]) for k, p in parameters.items()}
        )

    def _cast(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.dtype) if tensor.is_floating_point() else tensor
