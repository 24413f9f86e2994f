"""LoGra: each layer's gradient projected from both sides, and decomposed layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from typing import Any, ClassVar

import torch
from sklearn.utils import check_random_state
from torch import Tensor, nn

from influencekit.curvature._problem import (
    Curvature,
    CurvatureProblem,
    CurvatureRows,
    fisher_rows,
    ggn_rows,
)
from influencekit.curvature._spectrum import CoordinateSpectrum
from influencekit.curvature.layers._covariances import Covariances
from influencekit.curvature.layers._layer_projections import (
    LARGE_SUMS,
    LayerProjections,
    layer_dims,
)
from influencekit.curvature.layers._row_systems import eigenvectors_of_rows, sum_of_rows
from influencekit.exceptions import ProjectionWarning, ResourceError, warn_user
from influencekit.gradients._features import GradientFeatures
from influencekit.gradients._gradients import Gradients
from influencekit.gradients.blocks._base import BlockSpec
from influencekit.utils._long_work import chunks, format_bytes
from influencekit.utils.validation import Interval, StrOptions

__all__ = ["LoGra", "LoGraSpectrum"]

#: Layers whose inputs have a diagonal second moment.
_TABLES = (nn.Embedding, nn.EmbeddingBag)

DEFAULT_RANK = 32  # size of each side of a layer's projected gradient
_ROWS = {"ggn": ggn_rows, "fisher": fisher_rows}


class LoGra(Curvature, name="logra"):
    """Curvature of gradients that are projected layer by layer, from both sides.

    The gradient matrix G of each layer, its bias as last column, becomes ``P_out G P_inᵀ`` with
    ``rank`` rows and columns.  The curvature of these is decomposed exactly, layer by layer.  Name:
    ``"logra"``.

    Parameters
    ----------
    rank : int or None, default=None
        Number of rows and of columns of a projected gradient matrix, each at most that of the
        layer. None uses the largest rank for which all layers together have at most the
        attributor's ``projection_dim`` entries. If ``projection_dim`` is None too, the rank is 32,
        or less (with a warning) if 32 does not fit into memory.
    blocks : {"layers", "all"}, default="layers"
        Which entries of the curvature are kept: those within a layer ("layers"), or all.
    rows : {"auto", "ggn", "fisher"}, default="auto"
        Whether the curvature is the Gauss-Newton matrix, or the empirical Fisher matrix as in the
        paper. "auto" is the former, except for examples with too many outputs for their
        Hessian to be formed (language models).
    init : {"pca", "random"}, default="pca"
        "pca" projects to the leading eigenvectors of K-FAC's factors, the second moments of a
        layer's inputs and of the loss gradients at its outputs. "random" projects to random
        orthonormal rows, scaled so that inner products stay the same in expectation.
    random_state : int, RandomState instance or None, default=None
        Seed for the random projections; None uses the attributor's.

    Notes
    -----
    Scores are ``-<c_i, (A + λI)⁻¹ c_j> w_j/W`` with projected gradients c and their curvature A,
    to which a layer's mean penalty is added.  If the rank is as large as every side, they equal the
    scores of the exact block-diagonal curvature.

    Parameters of layers without such a matrix (normalization, recurrent layers) form one more
    block. It is kept exactly up to rank² entries, and projected to rank² entries by random signs
    beyond.

    With rank k, n examples and C curvature rows per example (1 for "fisher"), each layer costs
    ``O(n C k (d_in + d_out) + n k⁴ + k⁶)``, and memory is ``O(n k² + k⁴)``. ``init="pca"`` adds
    ``O((n + d_in) d_in² + (n + d_out) d_out²)`` and memory for the factors.

    On digits (an MLP 64-32-10, three recipes, ``damping_choices`` of benchmarks/), "pca" had at
    each rank about the same linear datamodeling score as "random" at twice the rank. At rank 16,
    with a sixth of the entries, it reached 0.91 to 0.98 of the score of the exact Gauss-Newton
    matrix. "ggn" was better than "fisher", and "all" was not better than "layers".

    References
    ----------
    .. [1] S. K. Choe et al. What is your data worth to GPT? LLM-scale data valuation with
       influence functions. 2024, arXiv 2405.13954.
    """

    projects: ClassVar[bool] = True
    _parameter_constraints: ClassVar[dict[str, list]] = {
        "rank": [Interval(Integral, 1, None, closed="left"), None],
        "blocks": [StrOptions({"layers", "all"})],
        "rows": [StrOptions({"auto", *_ROWS})],
        "init": [StrOptions({"random", "pca"})],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        rank: int | None = None,
        *,
        blocks: str = "layers",
        rows: str = "auto",
        init: str = "pca",
        random_state: Any = None,
    ):
        self.rank = rank
        self.blocks = blocks
        self.rows = rows
        self.init = init
        self.random_state = random_state

    def factorize(self, problem: CurvatureProblem) -> LoGraSpectrum:
        engine = problem.engine
        specs = engine.layout(problem.examples).specs
        rank = self._rank(problem, specs)
        drawn = problem.random_state if self.random_state is None else self.random_state
        seed = int(check_random_state(drawn).randint(2**31 - 1))
        rows = _ROWS[_automatic(problem) if self.rows == "auto" else self.rows](problem)
        room = min(engine.held_memory // 4, problem.max_memory - self._memory(problem, specs, rank))
        if self.init == "pca":
            projections = LayerProjections.principal(specs, rank, seed, problem, room)
        else:
            like = torch.empty(0, dtype=engine.task.dtype, device=engine.task.device)
            projections = LayerProjections.random(specs, rank, seed, like, room)
        return _decompose(rows, projections, self.blocks == "all")

    def _rank(self, problem: CurvatureProblem, specs: Sequence[BlockSpec]) -> int:
        """The given rank, or the largest that dimensions and memory allow."""
        wanted = problem.projection_dim
        if self.rank is not None and wanted is not None:
            raise ValueError(
                f"projection_dim: {wanted} and LoGra(rank={self.rank}) both set the size of the "
                f"projection. Give either rank, the size of each side of every layer, or "
                f"projection_dim, the number of entries of all layers together, and leave the "
                f"other at None."
            )
        if wanted is not None:
            return _largest(specs, lambda rank: _total(specs, rank) <= wanted, f"{wanted:,} dims")
        largest = self.rank or DEFAULT_RANK
        budget = problem.max_memory
        if self.init == "pca":
            problem.engine.require(
                _factor_bytes(problem, specs),
                "the second moments of LoGra's layers, of their inputs and output gradients",
                "Take LoGra(init='random'), which holds none",
            )

        def fits(rank: int) -> bool:
            return self._memory(problem, specs, rank) <= budget

        memory = self._memory(problem, specs, largest)
        if fits(largest):
            numbers = f"LoGra's {_total(specs, largest):,} numbers for each example"
            problem.engine.require(memory, f"{numbers} and their curvature", "Set a lower rank")
            return largest
        needed = format_bytes(memory)
        if self.rank is not None:
            raise ResourceError(
                f"rank: LoGra(rank={self.rank}) needs {needed} for {_total(specs, self.rank):,} "
                "numbers for each example and their curvature, but max_memory is "
                f"{format_bytes(budget)}. Lower rank or raise max_memory."
            )
        rank = _largest(specs, fits, format_bytes(budget))
        warn_user(
            f"LoGra's default rank {largest} would need {needed}; rank {rank} is used, which fits "
            f"into max_memory. Set LoGra(rank=...) to choose it yourself.",
            ProjectionWarning,
        )
        return rank

    def _memory(self, problem: CurvatureProblem, specs: Sequence[BlockSpec], rank: int) -> int:
        """Bytes of the training coordinates and of the largest decomposition."""
        item = torch.finfo(problem.engine.task.dtype).bits // 8
        total = _total(specs, rank)
        factors = _factor_bytes(problem, specs) if self.init == "pca" else 0
        dims = [_numbers(spec, rank) for spec in specs]
        order, sums = max(dims), sum(dim**2 for dim in dims)
        if self.blocks == "all":
            order, sums = total, total**2
        # sums in float64, eigenvectors of the largest and their copies, and a batch
        matrices = 8 * (sums + 4 * order**2) + problem.train.batch_bytes
        return max(factors, len(problem.examples) * total * item + matrices)


def _numbers(spec: BlockSpec, rank: int) -> int:
    k_out, k_in = layer_dims(spec, rank)
    return k_out * k_in


def _factor_bytes(problem: CurvatureProblem, specs: Sequence[BlockSpec]) -> int:
    """Bytes of the second moments of all layers, and of the workspace for the largest."""
    modules, orders = dict(problem.engine.task.module.named_modules()), []
    for spec in specs:
        if spec.is_matrix:
            orders.append(spec.d_in + spec.has_bias)
            # an attention's in_proj_weight is a layer, and no module
            if not isinstance(modules.get(spec.name), _TABLES):
                orders.append(spec.d_out)
    return 8 * (sum(order**2 for order in orders) + 3 * max(orders, default=0) ** 2)


def _total(specs: Sequence[BlockSpec], rank: int) -> int:
    return sum(_numbers(spec, rank) for spec in specs)


def _largest(specs: Sequence[BlockSpec], fits: Callable, limit: str) -> int:
    """Largest rank that fits, by doubling and halving."""
    if not fits(1):
        raise ResourceError(
            f"rank: LoGra's least, 1, one number for each layer ({len(specs):,}) of an "
            f"example, exceeds {limit}. Raise projection_dim or max_memory."
        )
    most = max(max(spec.d_out, spec.d_in + 1, int(spec.width**0.5) + 1) for spec in specs)
    low, high = 1, most + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


@dataclass
class LoGraSpectrum(CoordinateSpectrum):
    """Spectrum of projected gradients, block by block.

    Attributes
    ----------
    projections : LayerProjections
    bases : list of (slice, Tensor)
        Columns of the projected gradient and the eigenvectors within them.
    order : Tensor of shape (rank,)
        Positions of the eigenvalues (stored block by block) in ascending order.
    """

    projections: LayerProjections
    bases: list[tuple[slice, Tensor]]
    order: Tensor

    def coordinates(self, gradients: Gradients) -> Tensor:
        found = gradients.results(self.projections)
        return torch.cat([self.rotate(projected) for _, projected in found])

    def rotate(self, rows: Tensor) -> Tensor:
        """Projected gradients in the eigenbasis."""
        # c_l V_l, block by block
        return torch.cat([rows[:, own] @ basis for own, basis in self.bases], dim=1)[:, self.order]


@torch.no_grad()
def _automatic(problem: CurvatureProblem) -> str:
    """The Gauss-Newton matrix where the output Hessian of an example can be formed."""
    task = problem.engine.task
    outputs = task.forward(next(iter(problem.examples.batches(1))).inputs)
    return "ggn" if outputs[0].numel() <= task.loss.most_outputs else "fisher"


def _decompose(rows: CurvatureRows, projections: LayerProjections, joint: bool) -> LoGraSpectrum:
    penalty = _mean_penalties(rows, projections)
    if rows.rows.is_same(rows.problem.train):
        gradients = _projected_rows(rows, projections)
        found = _decomposed_rows(gradients, rows.weights, penalty, projections.places(joint))
    else:
        gradients, matrices = _summed_rows(rows, projections, joint)
        found = _decomposed_sums(matrices, penalty)
    values, data, bases = (list(part) for part in zip(*found, strict=True))
    joined = torch.cat(values)
    order = torch.argsort(joined, stable=True)
    spectrum = LoGraSpectrum(
        eigenvalues=joined[order].clamp_min(0.0),
        data_eigenvalues=torch.cat(data)[order].clamp_min(0.0),
        train_coordinates=gradients,
        tolerance=rows.tolerance,
        problem=rows.problem,
        projections=projections,
        bases=[(columns, basis.to(gradients.dtype)) for columns, basis in bases],
        order=order,
    )
    for some in chunks(len(gradients), 1, 1024):  # in place: there is memory for only one copy
        gradients[some] = spectrum.rotate(gradients[some])
    return spectrum


#: Eigenvalues of a block, the data's shares of them, and its columns with their eigenvectors.
_Decomposed = tuple[Tensor, Tensor, tuple[slice, Tensor]]


def _empty_rows(rows: CurvatureRows, projections: LayerProjections) -> Tensor:
    task, shape = rows.problem.engine.task, (len(rows.rows), projections.dim)
    return torch.empty(shape, dtype=task.dtype, device=task.device)


def _projected_rows(rows: CurvatureRows, projections: LayerProjections) -> Tensor:
    """Projected loss gradients, where the curvature is made of them."""
    gradients = _empty_rows(rows, projections)
    for some, projected in rows.rows.results(projections):
        gradients[some] = projected
    return gradients


def _decomposed_rows(
    gradients: Tensor, weights: Tensor, penalty: Tensor, places: Sequence[slice]
) -> Iterator[_Decomposed]:
    for columns in places:
        own, rows = penalty[columns], gradients[:, columns]
        if bool((own == own[0]).all()):
            # F_l + r I has the eigenvectors of F_l
            data, basis = eigenvectors_of_rows(rows, weights)
            yield data + own[0], data, (columns, basis.to(gradients.dtype))
        else:
            yield _decomposed(sum_of_rows(rows, weights), own, columns)


def _decomposed_sums(matrices: Covariances, penalty: Tensor) -> Iterator[_Decomposed]:
    for columns, matrix in matrices.finish():
        yield _decomposed(matrix, penalty[columns], columns)


def _decomposed(matrix: Tensor, penalty: Tensor, columns: slice) -> _Decomposed:
    # F_l + R_l = V_l diag(s) V_lᵀ
    matrix.diagonal().add_(penalty)
    eigenvalues, basis = torch.linalg.eigh(matrix)
    # v_kᵀ F v_k = s_k - v_kᵀ R v_k
    return eigenvalues, eigenvalues - penalty @ basis.square(), (columns, basis)


def _summed_rows(
    rows: CurvatureRows, projections: LayerProjections, joint: bool
) -> tuple[Tensor, Covariances]:
    """Projected loss gradients, and the sums over the rows that the curvature is made of."""
    gradients, weights = _empty_rows(rows, projections), rows.problem.example_weights
    matrices = Covariances(projections, joint, gradients)
    if matrices.nbytes <= LARGE_SUMS:
        work = partial(_projected, projections, matrices.empty())
        for some, (projected, added) in rows.rows.results(work, weights, pairs=True):
            gradients[some] = projected
            matrices.merge(added)
    else:  # sums of each batch would be one matrix more, and more to send than they save
        for some, features, loss in rows.rows.pairs():
            gradients[some] = projections(loss)
            matrices.add(features.compact(), weights[some])
    return gradients, matrices


def _projected(
    projections: LayerProjections,
    empty: Covariances,
    features: GradientFeatures,
    loss: GradientFeatures,
    weights: Tensor,
) -> tuple[Tensor, Covariances]:
    """A batch's projected loss gradients, and the sums over its rows."""
    added = empty.empty()
    added.add(features.compact(), weights)
    return projections(loss), added


def _mean_penalties(rows: CurvatureRows, projections: LayerProjections) -> Tensor:
    """Each block's mean penalty at its columns of a projected gradient, float64."""
    penalty, parts = rows.problem.penalty, []
    for spec, own in zip(projections.specs, projections.columns, strict=True):
        mean = torch.cat([penalty[c] for c in spec.columns]).mean()
        parts.append(mean.expand(own.stop - own.start))
    return torch.cat(parts)
