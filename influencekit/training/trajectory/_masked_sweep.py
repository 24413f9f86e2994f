"""Sweeps through some coordinates of a large model: disjoint random masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from influencekit.training.trajectory._replay import Replay, State
from influencekit.training.trajectory._step_batch import StepBatch
from influencekit.training.trajectory._step_loss import StepLoss
from influencekit.training.trajectory._sweep import Fronts, StepInfluence, Sweep
from influencekit.training.trajectory.rules._rule import Rule

__all__ = ["Mask", "MaskedSweep", "draw_masks"]

#: Curvatures that the gradients of a batch's rows are enough for.
BY_ROWS = ("fisher", "none")


class Mask(NamedTuple):
    """Some coordinates of a model.

    Parameters
    ----------
    coordinates : Tensor of int of shape (k,)
    weights : Tensor of shape (k,)
        Sums over all masks with these weights estimate sums over all coordinates.
    own_weights : Tensor of shape (k,)
        The same for sums over this mask alone.
    """

    coordinates: Tensor
    weights: Tensor
    own_weights: Tensor


def draw_masks(
    sizes: Sequence[int], mask_size: int, n_masks: int, rng: np.random.RandomState
) -> list[Mask]:
    """Disjoint random sets of coordinates.

    Parameters
    ----------
    sizes : sequence of int
        Number of coordinates of each parameter tensor, in order.
    mask_size : int
        Coordinates of each tensor in a mask. A tensor with fewer than ``n_masks * mask_size`` is
        divided among the masks.
    n_masks : int
    rng : RandomState

    Returns
    -------
    list of Mask
        The weights estimate sums without bias.
    """
    pieces: list[list[np.ndarray]] = [[] for _ in range(n_masks)]
    weights: list[list[np.ndarray]] = [[] for _ in range(n_masks)]
    start = 0
    for size in sizes:
        drawn = rng.permutation(size)[: n_masks * mask_size]
        for k, piece in enumerate(np.array_split(drawn, n_masks)):
            pieces[k].append(start + np.sort(piece))
            both = size / len(drawn), size / max(1, len(piece))
            weights[k].append(np.tile(both, (len(piece), 1)))
        start += size
    return [
        Mask(torch.as_tensor(np.concatenate(p)), *torch.as_tensor(np.concatenate(w)).T)
        for p, w in zip(pieces, weights, strict=True)
        if sum(map(len, p))
    ]


class MaskedSweep(Sweep):
    """Backward sweeps, each through the coordinates of one mask.

    In each, all other coordinates move as they did in the run.  A mask's coordinates stand for
    all, as a random sample does: the effect of moved parameters on a gradient, a sum over the
    coordinates, is estimated from the mask's own, and scores from those of all masks.

    Parameters
    ----------
    replay, rule, curvature, removal, horizon
        Those of :class:`Sweep`.
    masks : list of Mask
    at_once : int
        Number of gradients of the whole model in memory.
    """

    def __init__(
        self,
        replay: Replay,
        rule: Rule | None,
        curvature: str,
        removal: str,
        horizon: int | None,
        masks: list[Mask],
        at_once: int,
    ):
        super().__init__(replay, rule, curvature, removal, horizon)
        theta = replay.snapshot(0).theta
        self.at_once = at_once
        self.masks = [
            Mask(m.coordinates.to(theta.device), *(w.to(theta) for w in m[1:])) for m in masks
        ]

    def __call__(
        self,
        gradients: Callable[[Tensor], Tensor],
        adjoints: list[Tensor] | None = None,  # noqa: ARG002  not kept
    ) -> Iterator[StepInfluence]:
        """Sweep once through each mask."""
        fronts = [Fronts(self.rule, self.horizon, self.replay.n_steps) for _ in self.masks]
        outputs = _MaskedOutputs(gradients, self.masks, self.at_once)
        for step, loss, before, after in self.steps():
            values: Any = 0.0
            for k, (mask, front) in enumerate(zip(self.masks, fronts, strict=True)):
                front.open(step, before.theta, after.theta, outputs.of(k))
                here, then = (_at(state, mask.coordinates) for state in (before, after))
                adjoint, influence = self.back(step, loss.part(k), here, then, front.adjoint())
                values = values + front.own(influence.values)
                front.move(adjoint)
            yield StepInfluence(step, loss.batch.rows, values)

    def loss(self, theta: Tensor, batch: StepBatch) -> _MaskedLoss:
        return _MaskedLoss(self, theta, batch)

    def options_at(self, step: int, loss: Any) -> Any:
        return {
            name: value[loss.mask.coordinates] if isinstance(value, Tensor) else value
            for name, value in self.options(step).items()
        }


class _MaskedLoss:
    """The loss of one step, with the gradients of its rows at the coordinates of all masks."""

    def __init__(self, sweep: MaskedSweep, theta: Tensor, batch: StepBatch):
        self.batch, self.masks, self.at_once = batch, sweep.masks, sweep.at_once
        self.curvature = sweep.curvature
        twice = self.curvature not in BY_ROWS
        self.whole = StepLoss(sweep.replay, theta, batch, self.curvature, twice=twice)
        self.gradient, self.norm = self.whole.gradient, self.whole.norm
        shares = torch.diag(batch.shares.detach())
        rows = [self.whole.of_rows(some) for some in shares.split(self.at_once)]
        # c_j ∇loss_j at the mask's coordinates
        self.rows = [torch.cat([r[:, m.coordinates] for r in rows]) for m in self.masks]

    def part(self, k: int) -> _Part:
        """What one mask sees of it."""
        return _Part(self, k)


class _Part:
    """The loss of one step as a function of a mask's coordinates."""

    def __init__(self, loss: _MaskedLoss, k: int):
        self.loss, self.mask, self.rows = loss, loss.masks[k], loss.rows[k]
        self.batch, self.norm = loss.batch, loss.norm
        self.gradient = loss.gradient[self.mask.coordinates]

    def along(self, vectors: Tensor) -> Tensor:
        return (vectors * self.mask.weights) @ self.gradient

    def products(self, vectors: Tensor, steady: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Inner products with the rows' gradients, and curvature times vectors (n_vectors, k)."""
        inner = (vectors * self.mask.weights) @ self.rows.T
        seen = vectors * self.mask.own_weights
        seen = seen if steady is None else seen * steady
        if self.loss.curvature == "none":
            return inner, torch.zeros_like(vectors)
        if self.loss.curvature == "fisher":
            # Σ_j c_j <∇loss_j, u> ∇loss_j, from the rows c_j ∇loss_j
            shares = torch.where(self.batch.shares > 0, self.batch.shares, 1.0)
            return inner, ((seen @ self.rows.T) / shares) @ self.rows
        return inner, torch.cat([self._curved(some) for some in seen.split(self.loss.at_once)])

    def _curved(self, vectors: Tensor) -> Tensor:
        """Product with the mask's block of the curvature, by way of the whole one."""
        whole = vectors.new_zeros(len(vectors), len(self.loss.gradient))
        whole[:, self.mask.coordinates] = vectors
        return self.loss.whole.products(whole)[1][:, self.mask.coordinates]


class _MaskedOutputs:
    """Gradients of outputs at the coordinates of masks, taken once for all of them."""

    def __init__(self, gradients: Any, masks: list[Mask], at_once: int):
        self._gradients, self._masks, self._at_once = gradients, masks, at_once
        self._theta: Tensor | None = None
        self._parts: list[Tensor] = []

    def of(self, k: int) -> Callable[[Tensor], Tensor]:
        """Function from all parameters (p,) to gradients (n_queries, coordinates) of a mask."""

        def gradients(theta: Tensor) -> Tensor:
            if theta is not self._theta:
                blocks = list(self._gradients.blocks(theta, self._at_once))
                self._parts = [
                    torch.cat([b[:, mask.coordinates] for b in blocks]) for mask in self._masks
                ]
                self._theta = theta
            return self._parts[k].clone()

        return gradients


def _at(state: State, coordinates: Tensor) -> State:
    slots = {name: values[coordinates] for name, values in state.slots.items()}
    return State(state.theta[coordinates], slots, state.n_steps)
