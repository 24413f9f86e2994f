"""Any differentiable loss, given as a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from joblib import wrap_non_picklable_objects
from torch import Tensor

from influencekit.models.losses._base import HessianFactor, OutputLoss
from influencekit.models.losses._output_hessians import output_derivatives
from influencekit.models.losses._packing import Packing, map_structure
from influencekit.models.losses._separate import check_separate
from influencekit.utils._torch import callers_device

__all__ = ["CustomLoss"]


class CustomLoss(OutputLoss):
    """Any differentiable loss, given as a function of (outputs, targets).

    Its Hessian in output space is computed by automatic differentiation and restricted to its
    positive part. So if the loss is not convex in the outputs, the Gauss-Newton matrix is that of
    its convex part.

    Parameters
    ----------
    function : callable
        ``function(outputs, targets)`` that returns one loss for each example, (n,), or their mean
        or sum. A mean or sum is evaluated one example at a time.

    Attributes
    ----------
    outputs_packing, targets_packing : Packing or None
        How several outputs, or targets, of each example stand in one tensor. The function gets
        them as the module returned them, and as they were given.

    Raises
    ------
    ValueError
        On a call, if the result has another shape, is a scalar that is neither the mean
        nor the sum of the examples' losses, or if an example's loss changes with the others.

    Notes
    -----
    In a pickle a lambda, or a function made inside another one, stands as its code, which the
    same version of Python reads; any other function stands as its name.
    """

    is_own = True
    most_outputs = 2048
    outputs_packing: Packing | None = None
    targets_packing: Packing | None = None

    def __init__(self, function: Callable[[Any, Any], Tensor]):
        self.function = function

    def __getstate__(self) -> dict[str, Any]:
        """State for pickle, which knows functions by name only."""
        function = self.function
        if "<" in getattr(function, "__qualname__", ""):
            function = wrap_non_picklable_objects(function, keep_wrapper=False)
        return {**vars(self), "function": function}

    def __deepcopy__(self, memo: dict) -> CustomLoss:
        """A loss of the same function, as functions are not copied."""
        other = CustomLoss(self.function)
        vars(other).update(vars(self))
        return other

    def outputs_of(self, packed: Tensor) -> Any:
        """Outputs as the module returns them."""
        return packed if self.outputs_packing is None else self.outputs_packing.unpack(packed)

    def targets_of(self, packed: Any, dtype: torch.dtype) -> Any:
        """Targets as they were given, real numbers in a dtype."""
        if self.targets_packing is None or not isinstance(packed, Tensor):
            return packed
        own = self.targets_packing.unpack(packed)
        return map_structure(lambda t: t.to(dtype) if t.is_floating_point() else t, own)

    def evaluate(self, outputs: Tensor, targets: Any) -> Tensor:
        """What the function returns, whatever its shape."""
        given = self.outputs_of(outputs), self.targets_of(targets, outputs.dtype)
        with callers_device():
            return self.function(*given)

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        value, n = self.evaluate(outputs, targets), len(outputs)
        if not isinstance(value, Tensor):
            raise TypeError(
                f"loss: the function returned {type(value).__name__}; accepted is a Tensor with "
                f"one loss for each example, shape ({n},), or their mean or sum. Use torch "
                "operations "
                "only."
            )
        if value.shape == (n,):
            check_separate(self._losses, outputs, targets, value)
            return value
        if value.numel() != 1:
            raise ValueError(
                f"loss: got a result of shape {tuple(value.shape)} for {n} examples; accepted is "
                f"one loss for each example, shape (n,), or a scalar. "
                "Average over the other axes: losses.flatten(1).mean(1)."
            )
        if n == 1:
            return value.reshape(1)
        losses = self._one_at_a_time(outputs, targets)
        _check_scalar(value.detach(), losses.detach())
        return losses

    def check_total(self, outputs: Tensor, targets: Any) -> None:
        """Refuse a scalar that is not the mean or sum of the losses, up to rounding.

        Its gradient is compared as well, which a detached mean over the batch changes while it
        leaves the value alone. In float64 where the function takes it.
        """
        wide = targets
        if isinstance(targets, Tensor) and targets.is_floating_point():
            wide = targets.double()
        for z, t in ((outputs.detach().double(), wide), (outputs.detach(), targets)):
            z.requires_grad_()
            try:
                with torch.enable_grad():
                    value, losses = self.evaluate(z, t), self._one_at_a_time(z, t)
                    if value.numel() != 1:
                        return
                    slopes = [_slopes(total, z) for total in (value, losses.sum())]
            except (RuntimeError, TypeError, ValueError):  # float32 inside
                continue
            _check_scalar(value.detach(), losses.detach(), 1e-5)
            _check_slopes(*slopes)
            return

    def _losses(self, outputs: Tensor, targets: Any) -> Tensor:
        """Losses of the examples, without checks."""
        value = self.evaluate(outputs, targets)
        if value.shape == (len(outputs),) or value.numel() != 1:
            return value
        return value.reshape(1) if len(outputs) == 1 else self._one_at_a_time(outputs, targets)

    def _one(self, output: Tensor, target: Tensor) -> Tensor:
        return self.evaluate(output[None], target[None]).reshape(())

    def _one_at_a_time(self, outputs: Tensor, targets: Tensor) -> Tensor:
        try:
            return torch.func.vmap(self._one)(outputs, targets)
        except RuntimeError:  # the function reads values or has no batching rule
            pairs = zip(outputs, targets, strict=True)
            return torch.stack([self._one(output, target) for output, target in pairs])

    def hessian_factor(self, outputs: Tensor, targets: Tensor) -> HessianFactor:
        shape = outputs.shape[1:]

        def one(output: Tensor, target: Tensor) -> Tensor:
            return self._one(output.reshape(shape), target)

        def losses(flat: Tensor, some: Tensor) -> Tensor:
            return self._losses(flat.reshape(-1, *shape), some)

        flat = outputs.detach().flatten(1)
        gradient, hessian = output_derivatives(one, losses, flat, targets)
        values, vectors = torch.linalg.eigh(hessian)
        eps = torch.finfo(values.dtype).eps
        keep = values > values.abs().amax(1, keepdim=True) * eps * flat.shape[1]
        root = torch.where(keep, values, 0.0).sqrt()
        inner = (vectors.mT @ gradient[:, :, None])[:, :, 0]
        coordinates = torch.where(keep, inner / torch.where(keep, root, 1.0), 0.0)
        factor = vectors * root[:, None, :]
        missing = (factor @ coordinates[:, :, None])[:, :, 0] - gradient
        tolerance = 1e3 * eps * gradient.norm(dim=1).clamp_min(1e-30)
        inside = bool((missing.norm(dim=1) <= tolerance).all())
        return HessianFactor(factor, coordinates if inside else None)


def _check_scalar(value: Tensor, losses: Tensor, rounding: float = 1e-3) -> None:
    """Refuse a scalar that is neither the mean nor the sum of the examples' own losses."""
    try:
        got, total = float(value), float(losses.sum())
    except RuntimeError:  # inside a torch.func transform values cannot be read
        return
    close = rounding * (float(losses.abs().sum()) + 1e-12)
    if abs(got - total) <= close or abs(got * len(losses) - total) <= close:
        return
    raise ValueError(
        f"loss: on {len(losses)} examples together it is {got:.6g}, but the losses of the single "
        f"examples have mean "
        f"{total / len(losses):.6g} and sum {total:.6g}. Accepted is a loss that is the mean or "
        "the sum over examples. For class weights pass the criterion itself, for instance "
        "nn.CrossEntropyLoss(weight=...); else return one loss for each example, shape (n,). If y "
        "is (n,) and the outputs are (n, 1), the loss broadcasts them to (n, n): give y the shape "
        "of the outputs, y[:, None]."
    )


def _slopes(total: Tensor, outputs: Tensor) -> Tensor:
    if not total.requires_grad:
        return torch.zeros_like(outputs)
    found = torch.autograd.grad(total, outputs, allow_unused=True)[0]
    return torch.zeros_like(outputs) if found is None else found


def _check_slopes(got: Tensor, total: Tensor) -> None:
    """Refuse a scalar whose gradient is not that of the mean or the sum of the losses."""
    allowed = 1e-4 * float(total.abs().max()) + 1e-30
    if any(float((k * got - total).abs().max()) <= allowed for k in (1, len(got))):
        return
    if not bool(got.isfinite().all() and total.isfinite().all()):
        return
    raise ValueError(
        f"loss: on {len(got)} examples together its gradient is neither the mean nor the sum of "
        "the gradients of the single examples' losses, so that an example's part changes with the "
        "other examples: by a mean over the batch, perhaps detached. Accepted is a loss that is "
        "the mean or the sum over examples."
    )
