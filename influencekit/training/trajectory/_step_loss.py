"""Inner products and curvature products of a step's loss, for many vectors at once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor

from influencekit.training.trajectory._kinks import SMOOTHING, SoftKinks
from influencekit.training.trajectory._replay import (
    CLIP_EPS,
    Replay,
    random_state,
)
from influencekit.training.trajectory._step_batch import StepBatch

__all__ = ["CURVATURES", "StepLoss", "factor_of", "through_clipping"]

CURVATURES = ("hessian", "smoothed_hessian", "ggn", "fisher", "none")


class StepLoss:
    """The loss of one step around its parameters.

    Parameters
    ----------
    replay : Replay
    theta : Tensor of shape (p,)
    batch : StepBatch
    curvature : {"hessian", "smoothed_hessian", "ggn", "fisher", "none"}
    twice : bool, default=True
        Whether the gradient can be differentiated again, as :meth:`products` needs.
    smoothing : float
        Width of "smoothed_hessian" at kinks, in standard deviations of a unit over the batch.

    Attributes
    ----------
    gradient : Tensor of shape (p,)
        Before clipping.
    norm : Tensor
        Its norm, by which it was clipped.
    """

    def __init__(
        self,
        replay: Replay,
        theta: Tensor,
        batch: StepBatch,
        curvature: str,
        twice: bool = True,
        smoothing: float = SMOOTHING,
    ):
        self.batch, self._product = batch, _PRODUCTS[curvature]
        self._theta = theta.detach().requires_grad_(True)
        kinks = SoftKinks(smoothing) if curvature == "smoothed_hessian" else nullcontext()
        with random_state(batch.random_state), kinks:
            self._outputs = replay.model.outputs(self._theta, batch.inputs, training=True)
        self._losses = replay.model.task.loss(self._outputs, batch.targets)
        self._weights = torch.ones_like(self._losses, requires_grad=True)
        self._value = (self._weights * batch.shares * self._losses).sum()
        self._graph = torch.autograd.grad(
            self._value, self._theta, retain_graph=True, create_graph=twice
        )[0]
        self.gradient = self._graph.detach()
        self.norm = self.gradient.norm()

    def products(self, vectors: Tensor, steady: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Products with vectors u.

        Parameters
        ----------
        vectors : Tensor of shape (n_vectors, p)
        steady : Tensor of bool of shape (p,), default=None
            Coordinates of u that the curvature sees; None is all.

        Returns
        -------
        inner : Tensor of shape (n_vectors, batch)
            ``c_j <∇loss_j, u>``, with the row's share c_j of the step's loss.
        curved : Tensor of shape (n_vectors, p)
            Curvature times u.
        """
        if steady is None:
            return self._product(self, vectors)
        return self._inner(vectors), self._product(self, vectors * steady)[1]

    def along(self, vectors: Tensor) -> Tensor:
        """Inner products (n_vectors,) of vectors (n_vectors, p) with the step's gradient."""
        return vectors @ self.gradient

    def of_rows(self, shares: Tensor) -> Tensor:
        """Sums (n_sums, p) of the rows' gradients, with shares (n_sums, batch)."""
        return _pull(self._losses, (self._theta,), shares)[0]

    def hessian(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Hessian of the step's loss, with the inner products of :meth:`products`."""
        # <∂∇L/∂weights, u> and (∂∇L/∂θ) u = H u
        inner, curved = _pull(self._graph, (self._weights, self._theta), vectors)
        return inner, curved

    def _inner(self, vectors: Tensor) -> Tensor:
        return _pull(self._graph, (self._weights,), vectors)[0]

    def no_curvature(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """No curvature, only the inner products."""
        return self._inner(vectors), torch.zeros_like(vectors)

    def fisher(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Outer products of shares, times the batch's size for a mean: Σ_j c_j<∇l_j, u> ∇l_j."""
        # Σ_j c_j <∇loss_j, u> ∇loss_j
        inner = self._inner(vectors)
        return inner, _pull(self._losses, (self._theta,), inner)[0]

    def ggn(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Jacobians of the outputs around the loss's Hessian by the outputs."""
        cotangent = torch.zeros_like(self._outputs, requires_grad=True)
        # Jᵀ c is linear in c: its pull-back of u is J u
        pushed = torch.autograd.grad(
            self._outputs, self._theta, cotangent, create_graph=True, retain_graph=True
        )[0]
        tangents = _pull(pushed, (cotangent,), vectors)[0]
        # ∂L/∂z, and c_j <∂loss_j/∂z, J u>
        slope = torch.autograd.grad(self._value, self._outputs, create_graph=True)[0]
        shares = slope.detach() * tangents
        inner = shares.flatten(2).sum(-1) if shares.ndim > 2 else shares
        # Jᵀ (∂²L/∂z²) J u
        bent = _pull(slope, (self._outputs,), tangents)[0]
        return inner, _pull(self._outputs, (self._theta,), bent)[0]


_PRODUCTS: dict[str, Callable] = {
    "hessian": StepLoss.hessian,
    "smoothed_hessian": StepLoss.hessian,
    "ggn": StepLoss.ggn,
    "fisher": StepLoss.fisher,
    "none": StepLoss.no_curvature,
}


def _pull(value: Tensor, inputs: tuple[Tensor, ...], vectors: Tensor) -> list[Tensor]:
    """Vector-Jacobian products of many vectors (n, *value.shape), each (n, *input.shape)."""
    if not value.requires_grad:
        return [vectors.new_zeros(len(vectors), *t.shape) for t in inputs]
    if len(vectors) == 1:
        return _one_by_one(value, inputs, vectors)
    try:
        found = torch.autograd.grad(
            value, inputs, vectors, is_grads_batched=True, retain_graph=True, allow_unused=True
        )
    except RuntimeError:  # a layer whose double backward has no batching rule, as GroupNorm's
        return _one_by_one(value, inputs, vectors)
    return [
        vectors.new_zeros(len(vectors), *t.shape) if g is None else g.detach()
        for g, t in zip(found, inputs, strict=True)
    ]


def _one_by_one(value: Tensor, inputs: tuple[Tensor, ...], vectors: Tensor) -> list[Tensor]:
    """The same products, one vector after the other."""
    rows = [
        torch.autograd.grad(value, inputs, v, retain_graph=True, allow_unused=True) for v in vectors
    ]
    return [
        torch.stack([torch.zeros_like(t) if row[i] is None else row[i] for row in rows]).detach()
        for i, t in enumerate(inputs)
    ]


def factor_of(norm: Tensor, max_norm: float | None) -> float:
    """Factor by which a gradient of some norm was clipped."""
    return 1.0 if max_norm is None else min(1.0, max_norm / (float(norm) + CLIP_EPS))


def through_clipping(
    vectors: Tensor, gradient: Tensor, max_norm: float | None, norm: Tensor
) -> Tensor:
    """Adjoint of a gradient from that of the clipped gradient.

    ``g -> g · c / (‖g‖ + 1e-6)`` where the norm exceeds c, the identity elsewhere.

    Parameters
    ----------
    vectors : Tensor of shape (n_vectors, p)
    gradient : Tensor of shape (p,)
        Before clipping.
    max_norm : float or None
    norm : Tensor
        Norm of the whole gradient, of which ``gradient`` may be some coordinates.

    Returns
    -------
    Tensor of shape (n_vectors, p)
    """
    factor = factor_of(norm, max_norm)
    if max_norm is None or factor >= 1.0:
        return vectors
    # u (φ I - c g gᵀ / ((‖g‖ + ε)² ‖g‖)), with the clipping factor φ
    along = (vectors @ gradient) * (max_norm / ((norm + CLIP_EPS) ** 2 * norm))
    return factor * vectors - along[:, None] * gradient
