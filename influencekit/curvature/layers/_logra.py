"""LoGra: each layer's gradient projected from both sides, and decomposed layer by layer."""

from __future__ import annotations

import copy
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
from influencekit.curvature.layers._layer_projections import (
    LARGE_SUMS,
    LayerProjections,
    layer_dims,
)
from influencekit.exceptions import ProjectionWarning, ResourceError, warn_user
from influencekit.gradients._features import GradientFeatures
from influencekit.gradients._gradients import Gradients
from influencekit.gradients.blocks._base import Block, BlockSpec, symmetrize
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
        if self.init == "pca":
            projections = LayerProjections.principal(specs, rank, seed, problem)
        else:
            like = torch.empty(0, dtype=engine.task.dtype, device=engine.task.device)
            projections = LayerProjections.random(specs, rank, seed, like)
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
    task = rows.problem.engine.task
    shape = (len(rows.rows), projections.dim)
    gradients = torch.empty(shape, dtype=task.dtype, device=task.device)
    matrices = _Covariances(projections, joint, gradients)
    own = rows.rows.is_same(rows.problem.train)
    weights = rows.problem.example_weights
    if own or matrices.nbytes <= LARGE_SUMS:
        work = partial(_projected, projections, None if own else matrices.empty())
        for some, (projected, added) in rows.rows.results(work, weights, pairs=True):
            gradients[some] = projected
            if added is not None:
                matrices.merge(added)
    else:  # sums of each batch would be one matrix more, and more to send than they save
        for some, features, loss in rows.rows.pairs():
            gradients[some] = projections(loss)
            matrices.add(features.compact(), weights[some])
    if own:
        matrices.add_rows(gradients, rows.weights)
    penalty, values, data, bases = _mean_penalties(rows, projections), [], [], []
    for columns, matrix in matrices.finish():
        # F_l + R_l = V_l diag(s) V_lᵀ
        matrix.diagonal().add_(penalty[columns])
        eigenvalues, basis = torch.linalg.eigh(matrix)
        values.append(eigenvalues)
        # v_kᵀ F v_k = s_k - v_kᵀ R v_k
        data.append(eigenvalues - penalty[columns] @ basis.square())
        bases.append((columns, basis.to(gradients.dtype)))
    joined = torch.cat(values)
    order = torch.argsort(joined, stable=True)
    spectrum = LoGraSpectrum(
        eigenvalues=joined[order].clamp_min(0.0),
        data_eigenvalues=torch.cat(data)[order].clamp_min(0.0),
        train_coordinates=gradients,
        tolerance=rows.tolerance,
        problem=rows.problem,
        projections=projections,
        bases=bases,
        order=order,
    )
    for some in chunks(len(gradients), 1, 1024):  # in place: there is memory for only one copy
        gradients[some] = spectrum.rotate(gradients[some])
    return spectrum


def _projected(
    projections: LayerProjections,
    empty: _Covariances | None,
    features: GradientFeatures,
    loss: GradientFeatures,
    weights: Tensor,
) -> tuple[Tensor, _Covariances | None]:
    """A batch's projected loss gradients, and the sums over its rows where they are wanted."""
    added = None if empty is None else empty.empty()
    if added is not None:
        added.add(features.compact(), weights)
    return projections(loss), added


def _mean_penalties(rows: CurvatureRows, projections: LayerProjections) -> Tensor:
    """Each block's mean penalty at its columns of a projected gradient, float64."""
    penalty, parts = rows.problem.penalty, []
    for spec, own in zip(projections.specs, projections.columns, strict=True):
        mean = torch.cat([penalty[c] for c in spec.columns]).mean()
        parts.append(mean.expand(own.stop - own.start))
    return torch.cat(parts)


class _Covariances:
    """Curvature matrices of the projected gradients, one for each layer or one for all, float64."""

    def __init__(self, projections: LayerProjections, joint: bool, like: Tensor):
        self.projections = projections
        self.joint = joint
        columns = projections.columns
        self.columns = [slice(0, projections.dim)] if joint else columns
        self.matrices = [
            torch.zeros(c.stop - c.start, c.stop - c.start, dtype=torch.float64, device=like.device)
            for c in self.columns
        ]
        self.specs: tuple[BlockSpec, ...] = ()

    @property
    def nbytes(self) -> int:
        return sum(matrix.nbytes for matrix in self.matrices)

    def empty(self) -> _Covariances:
        """The same of no rows."""
        other = copy.copy(self)
        other.matrices = [torch.zeros_like(matrix) for matrix in self.matrices]
        return other

    def merge(self, other: _Covariances) -> None:
        """Add the sums over other rows."""
        self.specs = other.specs
        for matrix, more in zip(self.matrices, other.matrices, strict=True):
            matrix += more

    def add_rows(self, gradients: Tensor, weights: Tensor) -> None:
        """Add weighted outer products of projected rows, one for each example."""
        for rows in chunks(len(gradients), gradients.shape[1], 2**22):
            some, own = gradients[rows].to(torch.float64), weights[rows, None]
            for columns, matrix in zip(self.columns, self.matrices, strict=True):
                # Σ_i w_i/W c_i c_iᵀ
                matrix.addmm_((some[:, columns] * own).mT, some[:, columns])

    def add(self, features: GradientFeatures, weights: Tensor) -> None:
        """Add the outer products of some examples' gradients, with a weight for each example."""
        blocks = self.projections.project_factors(features)
        weights = weights.repeat_interleave(features.rows_per_example)
        if self.joint:
            self.specs = tuple(block.spec for block in blocks)
            self._add(blocks, features, weights, self.matrices[0])
            return
        for block, matrix in zip(blocks, self.matrices, strict=True):
            self._add([_at_origin(block)], features, weights, matrix)

    def _add(
        self, blocks: list[Block], features: GradientFeatures, weights: Tensor, out: Tensor
    ) -> None:
        held = {block.spec.name: block for block in blocks}
        n, r = features.n_examples, features.rows_per_example
        small = GradientFeatures(held, n, r, len(out), features.workspace)
        small.add_covariance(weights, out)

    def finish(self) -> Iterator[tuple[slice, Tensor]]:
        """Columns and complete matrices, given away one by one."""
        if self.specs:
            symmetrize(self.specs, self.matrices[0])
        yield from ((columns, self.matrices.pop(0)) for columns in self.columns)


def _at_origin(block: Block) -> Block:
    """The block as the only one of its features."""
    spec = block.spec
    own = (slice(0, spec.columns[0].stop - spec.columns[0].start),)
    return block.with_spec(BlockSpec(spec.name, own, spec.d_out, spec.d_in))
