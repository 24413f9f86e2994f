"""DataInf: the mean of the inverses of each example's curvature, in closed form."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar

import torch
from torch import Tensor

from influencekit.curvature._base import FittedCurvature
from influencekit.curvature._problem import Curvature, CurvatureProblem
from influencekit.curvature.layers._grouped_gradients import PartProducts
from influencekit.curvature.layers._parts import GROUPINGS
from influencekit.gradients._gradients import Gradients
from influencekit.utils.validation import StrOptions

__all__ = ["DataInf", "FittedDataInf"]


class DataInf(Curvature, name="datainf"):
    """Empirical Fisher matrix with the mean and the inverse swapped.

    For every layer ``l``, ``(A_l + λI)⁻¹`` is replaced by
    ``Σ_i w_i/W (g_i g_iᵀ + R_l + λ_l I)⁻¹`` with the layer's loss gradients ``g_i`` and its
    penalty ``R_l``.  Each inverse has a closed form.  Name: ``"datainf"``.

    Parameters
    ----------
    blocks : {"layers", "tensors", "all"}, default="layers"
        What counts as a layer. "layers": a module's own parameters, weight and bias together.
        "tensors": every weight and every bias by itself. "all": all parameters at once.
    scaled : bool, default=False
        If True, the attributor's ``damping`` is multiplied for each layer by the mean squared
        entry of its gradients, ``λ_l = damping · Σ_i w_i/W |g_i|² / d_l``, which is the paper's
        rule with ``damping=0.1``. If False, ``λ_l = damping`` for all layers, as for every other
        curvature.

    Notes
    -----
    As an approximation of further training: second order, with the empirical Fisher matrix of each
    layer, and the mean and the inverse swapped.

    With ``D = R_l + λ_l I`` and ``<u, v>_D = uᵀ D⁻¹ v``, a product is
    ``Σ_l <v, h>_D - Σ_i w_i/W <v, g_i>_D <g_i, h>_D / (1 + <g_i, g_i>_D)``.  A penalty that is
    constant over the layer adds to λ; one that differs between weight and bias is kept exactly.

    The mean of inverses is far from the inverse of the mean if the gradients of examples differ:
    scores are then close to inner products of gradients (:class:`GradDot`), and ``damping`` changes
    little more than their scale.  On digits (an MLP 64-32-10, three recipes, ``damping_choices`` of
    benchmarks/) their linear datamodeling score was within 0.01 of GradDot's at any damping from
    1e-6 to 1e3, and half to two thirds of the score of the exact empirical Fisher matrix. So the
    choice of damping hardly matters: ``damping="auto"`` is 0.1 times the mean squared entry of the
    gradients, as in the paper, computed for each layer if ``scaled``.

    Cost for each layer: ``O(n² (d_in + d_out + m))`` for n training examples and m queries
    through the Gram matrix, or ``O(n m d_in d_out)`` through weighted sums of gradients, whichever
    is less. The Gram matrices are kept for the next damping if they fit into a quarter of
    ``max_memory``; otherwise they are computed again, one tile at a time.

    References
    ----------
    .. [1] Y. Kwon, E. Wu, K. Wu, J. Zou. DataInf: efficiently estimating data influence in
       LoRA-tuned LLMs and diffusion models. ICLR 2024, arXiv 2310.00902.
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {
        "blocks": [StrOptions(set(GROUPINGS))],
        "scaled": ["boolean"],
    }

    def __init__(self, blocks: str = "layers", *, scaled: bool = False):
        self.blocks = blocks
        self.scaled = scaled

    @property
    def absolute_damping(self) -> bool:
        return not self.scaled

    def factorize(self, problem: CurvatureProblem) -> FittedDataInf:
        return FittedDataInf(problem, PartProducts(problem, self.blocks), self.scaled)


class FittedDataInf(FittedCurvature):
    """Products through the mean of each example's damped inverse.

    Parameters
    ----------
    problem : CurvatureProblem
    gradients : PartProducts
    scaled : bool
    """

    def __init__(self, problem: CurvatureProblem, gradients: PartProducts, scaled: bool):
        self.problem = problem
        self.gradients = gradients
        self.scaled = scaled
        self.units = self._units()

    def _units(self) -> list[float]:
        """What a damping of 1 adds to the curvature of every group."""
        if not self.scaled:
            return [1.0] * len(self.gradients.groups)
        return [self._mean_square([i]) for i in range(len(self.gradients.groups))]

    def _mean_square(self, groups: Iterable[int]) -> float:
        """Mean squared entry of the training gradients in some groups."""
        weights, gradients = self.problem.example_weights, self.gradients
        # Σ_i w_i/W ‖g_i‖² over the number of parameters
        total = sum(float(gradients.norms[i].sum(0) @ weights) for i in groups)
        return total / sum(part.width for i in groups for part in gradients.groups[i])

    @property
    def unit(self) -> float:
        """Damping equal to the mean squared entry of the training gradients."""
        return 1.0 if self.scaled else self._mean_square(range(len(self.gradients.groups)))

    def _scales(self, position: int, damping: float) -> Tensor:
        """``1 / (r + λ_l)`` for every part of a group, float64."""
        penalties = [part.penalty for part in self.gradients.groups[position]]
        levels = torch.tensor(penalties, dtype=torch.float64) + damping * self.units[position]
        if not bool((levels > 0).all()):
            if damping > 0:  # a layer whose training gradients are all zero
                return torch.where(levels > 0, 1 / levels, 0.0)
            raise ValueError(
                "damping: got 0 for a model with unpenalized parameters, for which DataInf needs "
                "a positive damping. Give one, or damping='auto'."
            )
        return 1 / levels

    def _shares(self, position: int, scales: Tensor) -> Tensor:
        """``w_i/W / (1 + <g_i, g_i>_D)`` of every training example, float64."""
        norms = self.gradients.norms[position]
        return self.problem.example_weights / (1 + scales.to(norms) @ norms)

    def products(self, queries: Gradients, damping: float) -> Tensor:
        dtype, device = self.problem.engine.task.dtype, self.problem.engine.task.device
        out = torch.zeros(len(queries), self.gradients.n_train, dtype=dtype, device=device)
        size, train = self.gradients.query_chunk(queries), self.gradients.train()
        for start in range(0, len(queries), size):
            rows = slice(start, start + size)
            some = queries if size >= len(queries) else queries.take(rows)
            for position, found in enumerate(self.gradients.query_dots(some, train)):
                self._add_products(position, found, damping, train, out[rows])
        return out

    def _add_products(
        self, position: int, dots: Tensor, damping: float, train: Gradients, out: Tensor
    ) -> None:
        scales = self._scales(position, damping)
        # <v, h>_D = Σ_parts <v, h> / (r + λ_l), (n_query, n_train)
        direct = torch.einsum("p,pij->ij", scales.to(dots), dots)
        # w_i/W <v, g_i>_D / (1 + <g_i, g_i>_D)
        left = direct * self._shares(position, scales).to(dots)
        out += direct
        if not self.gradients.gram_is_cheaper(position, len(out), train):
            self.gradients.add_products_of_sums(position, left, -scales, train, out)
            return
        for rows, columns, tile in self._tiles(position, scales, train):
            # - Σ_i left_i <g_i, h>_D, a tile at a time
            out[:, columns].addmm_(left[:, rows], tile, alpha=-1)
            if rows != columns:
                out[:, rows].addmm_(left[:, columns], tile.mT, alpha=-1)

    def _tiles(
        self, position: int, scales: Tensor, train: Gradients
    ) -> Iterator[tuple[slice, slice, Tensor]]:
        """Tiles of ``<g_i, g_j>_D``, on and above the diagonal."""
        for rows, columns, tile in self.gradients.gram(position, train):
            yield rows, columns, torch.einsum("p,pij->ij", scales.to(tile), tile)

    def self_products(self, damping: float) -> Tensor:
        total = torch.zeros_like(self.problem.example_weights)
        train = self.gradients.train()
        for position, norms in enumerate(self.gradients.norms):
            scales = self._scales(position, damping)
            shares = self._shares(position, scales)
            # <g_j, g_j>_D
            total += scales.to(norms) @ norms
            for rows, columns, tile in self._tiles(position, scales, train):
                squares = tile.square().to(torch.float64)
                # - Σ_i w_i/W <g_i, g_j>_D² / (1 + <g_i, g_i>_D)
                total[columns] -= shares[rows] @ squares
                if rows != columns:
                    total[rows] -= squares @ shares[columns]
        return total
