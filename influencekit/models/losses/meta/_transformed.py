"""The loss of a model that was fitted on a function of the targets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from influencekit.models.losses._base import Draw, HessianFactor
from influencekit.models.losses._elementwise import ColumnLoss, flat_pair

__all__ = ["TransformedTargets"]

Columns = Callable[[np.ndarray], np.ndarray]


class TransformedTargets(ColumnLoss):
    """Loss of outputs and ``g(targets)``, with predictions ``g⁻¹(outputs)`` in the targets' units.

    Parameters
    ----------
    loss : ColumnLoss
        What the model minimized.
    transform, inverse : callable
        g and its inverse on arrays (n, k), each column by itself.
    """

    def __init__(self, loss: ColumnLoss, transform: Columns, inverse: Columns):
        self.loss = loss
        self.transform = transform
        self.inverse = inverse

    def _own(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        z, t = flat_pair(outputs, targets)
        return z, torch.from_numpy(self.transform(t.detach().cpu().numpy())).to(z)

    def terms(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.loss.terms(*self._own(outputs, targets))

    def derivatives(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return self.loss.derivatives(*self._own(outputs, targets))

    def hessian_factor(self, outputs: Tensor, targets: Tensor) -> HessianFactor:
        return self.loss.hessian_factor(*self._own(outputs, targets))

    def sampled_gradients(self, outputs: Tensor, targets: Tensor, draw: Draw) -> Tensor:
        return self.loss.sampled_gradients(*self._own(outputs, targets), draw)

    def prediction(self, outputs: Tensor) -> Tensor:
        return _Numeric.apply(self.loss.prediction(outputs).flatten(1), self.inverse)


class _Numeric(torch.autograd.Function):
    """A function of numpy arrays with its slope by central differences."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, function: Columns) -> Tensor:
        array = values.detach().cpu().numpy()
        step = 1e-5 * (1 + np.abs(array))
        # (f(z + h) - f(z - h)) / 2h
        slope = (function(array + step) - function(array - step)) / (2 * step)
        ctx.save_for_backward(torch.from_numpy(np.asarray(slope)).to(values))
        return torch.from_numpy(np.array(function(array))).to(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        return gradients[0] * slope, None
