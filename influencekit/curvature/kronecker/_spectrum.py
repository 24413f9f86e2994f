"""The factorized form of a Kronecker-factored curvature, and its damping path."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from influencekit.curvature._problem import CurvatureProblem
from influencekit.curvature._spectrum import (
    SMALLEST_ORDER,
    DampingPath,
    Spectrum,
    SubsetSums,
    check_masks,
    damped_inverse,
    sample_rows,
)
from influencekit.curvature.kronecker._bases import BlockBasis
from influencekit.curvature.kronecker._scores import Tile, add_products, plan_tiles, scaled
from influencekit.curvature.kronecker._store import (
    most_queries,
    most_rows,
    multiplied_out,
    repeats,
    rotate,
)
from influencekit.gradients._features import GradientFeatures
from influencekit.gradients._gradients import Gradients
from influencekit.utils._long_work import chunks

__all__ = ["KroneckerPath", "KroneckerSpectrum"]

#: Bytes of queries that may be sent to workers with each slice.
_SENT = 2**27
#: Bytes of dense queries that are kept for all slices.
_QUERY_BYTES = 2**27
#: Data's share of an eigenvalue, relative to the largest, that may be rounding of the factors.
_ROUNDING = SMALLEST_ORDER * torch.finfo(torch.float64).eps


class KroneckerSpectrum(Spectrum):
    """Block-diagonal curvature, diagonal in a product basis of every layer.

    Attributes
    ----------
    problem : CurvatureProblem
    bases : dict of str to BlockBasis
        Basis of each block, in the order of the coordinates.
    table : Tensor of shape (p,), float64
        Eigenvalues in the order of the coordinates.
    data_table : Tensor of shape (p,), float64
        The data's share of each eigenvalue.
    tolerance : float
        Eigenvalues up to ``tolerance * max`` count as zero when the damping is 0.
    product_tolerance : float
        Relative error allowed in products of large layers.
    train : Gradients
        Coordinates of the training examples' loss gradients.
    sample : Gradients or None
        Coordinates of the rows ``sample_rows``, kept until they are read, if not all are kept.
    """

    def __init__(
        self,
        problem: CurvatureProblem,
        bases: dict[str, BlockBasis],
        table: Tensor,
        data_table: Tensor,
        product_tolerance: float,
        train: Gradients,
        sample: Gradients | None,
    ):
        self.problem = problem
        self.bases = bases
        self.table = table
        self.data_table = data_table
        dtype = problem.engine.task.dtype
        size = len(table) if dtype == torch.float64 else 1
        self.tolerance = size * torch.finfo(dtype).eps
        self.product_tolerance = product_tolerance
        self.train, self.sample = train, sample
        self._last_plan: tuple[float, dict[str, list[Tile]]] | None = None

    def __getstate__(self) -> dict:
        return {**self.__dict__, "sample": None}

    @property
    def eigenvalues(self) -> Tensor:  # type: ignore[override]
        """All eigenvalues, ascending, (p,) in float64."""
        return self.table.sort().values

    @property
    def data_eigenvalues(self) -> Tensor:  # type: ignore[override]
        """The data's share of each of ``eigenvalues``."""
        return self.data_table[self.table.argsort()]

    @property
    def unordered(self) -> tuple[Tensor, Tensor]:
        return self.table, self.data_table

    @property
    def bounds(self) -> Tensor:
        return self.table

    @property
    def rounding(self) -> float:
        size = max(SMALLEST_ORDER, len(self.table))
        return size * torch.finfo(torch.float64).eps * float(self.table.max())

    def inverse_table(self, damping: float) -> Tensor:
        """``1 / (s + λ)`` in the order of the coordinates, (p,) in float64."""
        return damped_inverse(self.table, damping, self.tolerance)

    def path(self, queries: Gradients) -> DampingPath:
        factors = queries.along(queries.cotangent, keep_factors=True)
        coordinates = factors.map(partial(rotate, bases=self.bases))
        held = coordinates.held(self.problem.held_memory // 6, spill=True)
        return KroneckerPath(self, held, self.problem.example_weights)

    def train_path(self, rows: Tensor) -> DampingPath:
        queries = self.train.take(rows).held(self.problem.held_memory // 6, spill=True)
        return KroneckerPath(self, multiplied_out(queries), self.problem.example_weights)

    @property
    def most_rows(self) -> int | None:  # type: ignore[override]
        """Number of rows that a damping is chosen on; None is 2,000."""
        return most_rows(self.train)

    @property
    def n_queries(self) -> int:  # type: ignore[override]
        """Number of those rows that are queries."""
        return most_queries(self.train, super().n_queries)

    def restrict(self, columns: Tensor) -> Spectrum:
        narrow = self.narrow(columns)
        narrow.train = multiplied_out(narrow.train)
        return narrow

    def narrow(self, columns: Tensor) -> KroneckerSpectrum:
        """The same as ``restrict``, with coordinates in the form in which they are kept."""
        narrow, kept = copy.copy(self), self.sample
        narrow.problem = self.problem.take(columns)
        if kept is None or not torch.equal(columns, sample_rows(self.row_sizes(), self.most_rows)):
            everyone = len(columns) == len(self.train)  # which are not copied
            kept = self.train if everyone else self.train.take(columns)
            kept = kept.held(self.problem.held_memory // 6, spill=True)
        narrow.train = kept
        narrow.sample, self.sample = None, None
        narrow._last_plan = None  # noqa: SLF001  a copy of itself
        return narrow

    def self_products(self, damping: float) -> Tensor:
        work = partial(_forms, self.bases, self.inverse_table(damping)[None])
        return torch.cat([forms[:, 0] for _, forms in self.train.results(work)])

    def solve(self, vectors: Tensor, damping: float) -> Tensor:
        """``(A + λI)⁻¹ v`` of every row.

        Parameters
        ----------
        vectors : Tensor of shape (k, p)
        damping : float

        Returns
        -------
        Tensor of shape (k, p)
        """
        out = torch.empty_like(vectors)
        inverse = self.inverse_table(damping).to(vectors)
        for basis in self.bases.values():
            own = torch.cat([vectors[:, columns] for columns in basis.spec.columns], dim=1)
            # V diag(1 / (s + λ)) Vᵀ v, block by block
            solved = basis.unrotate_rows(basis.rotate_rows(own) * inverse[basis.columns])
            basis.spec.scatter(solved, out)
        return out

    def forms(self, features: Any, tables: Tensor) -> Tensor:
        """``Σ_k tables[j, k] c_ik²`` over all blocks, (n_rows, n_tables) in float64."""
        return _forms(self.bases, tables, features)

    def plan(self, damping: float) -> dict[str, list[Tile]]:
        """Plan for products at a damping; the last plan is remembered."""
        last = self._last_plan
        if last is None or last[0] != damping:
            inverse, n = self.inverse_table(damping), len(self.problem.examples)
            last = (damping, plan_tiles(self.bases, inverse, n, self.product_tolerance))
            self._last_plan = last
        return last[1]


@dataclass
class KroneckerPath(DampingPath):
    """Path of a Kronecker-factored curvature: coordinates stay factored.

    Attributes
    ----------
    spectrum : KroneckerSpectrum
    queries : Gradients
        Queries as coordinates.
    train_weights : Tensor of shape (n_train,), float64
    """

    spectrum: KroneckerSpectrum
    queries: Gradients
    train_weights: Tensor

    def products(self, damping: float) -> Tensor:
        spectrum = self.spectrum
        engine = spectrum.problem.engine
        shape = (len(self.queries), len(spectrum.train))
        out = torch.zeros(shape, dtype=engine.task.dtype, device=engine.task.device)
        tables = spectrum.bases, spectrum.inverse_table(damping), spectrum.plan(damping)
        if spectrum.train.is_shared and self.queries.nbytes <= _SENT:
            work = partial(_products, *tables, list(self.queries))
            for columns, found in spectrum.train.results(work):
                out[:, columns] = found
        else:
            queries = list(self._scaled(tables[1])) if self._fits else self.queries
            for columns, train in spectrum.train:
                _add_products(*tables, queries, train, out[:, columns])
        return out

    @property
    def _fits(self) -> bool:
        """Whether dense queries fit, and several pieces of the training side would make them."""
        blocks = self.queries.sample.blocks.values()
        each = sum(block.dense_bytes for block in blocks if repeats(block))
        pieces = self.spectrum.train.parts
        several = pieces is None or len(pieces) > 1
        return several and len(self.queries) * each <= _QUERY_BYTES

    def _scaled(self, inverse: Tensor) -> Iterator[tuple[slice, GradientFeatures]]:
        """Queries, with layers whose dense rows are needed times ``1 / (s + λ)``, once."""
        bases = self.spectrum.bases
        for rows, features in self.queries:
            yield (
                rows,
                features.with_blocks(
                    {
                        name: scaled(block, inverse[bases[name].columns])
                        if repeats(block)
                        else block
                        for name, block in features.blocks.items()
                        if name in bases
                    }
                ),
            )

    def xi(self, dampings: ArrayLike) -> np.ndarray:
        t1, t2, t3 = self.power_sums(np.atleast_1d(np.asarray(dampings, dtype=np.float64)))
        return (t2 / torch.sqrt(t1 * t3)).cpu().numpy()

    def power_sums(self, dampings: np.ndarray) -> Tensor:
        """``t_k`` of ξ up to a factor, (3, n_dampings, n_queries) in float64."""
        spectrum = self.spectrum
        shape = (3, len(dampings), len(self.queries))
        out = torch.empty(shape, dtype=torch.float64, device=spectrum.table.device)
        each, workspace = 64 * len(spectrum.table), spectrum.problem.engine.workspace
        for rows, features in self.queries:
            for some in chunks(len(dampings), each, workspace):
                forms = spectrum.forms(features, self._tables(dampings[some]))
                # t_k = Σ_j d_j c_j² / (s_j + λ)^k
                out[:, some, rows] = forms.mT.unflatten(0, (3, -1))
        return out

    def _tables(self, dampings: np.ndarray) -> Tensor:
        """Weights ``d / (s + λ)^k`` of squared coordinates, k = 1, 2, 3, in their dtype."""
        spectrum = self.spectrum
        dtype = spectrum.problem.engine.task.dtype
        # common factors do not change ξ and keep the cubes in range
        data = spectrum.data_table / spectrum.data_table.max() - _ROUNDING
        data = data.clamp_min(0.0).to(dtype)
        inverses = [spectrum.inverse_table(float(damping)) for damping in dampings]
        powers = torch.stack([(inverse / inverse.max()).to(dtype) for inverse in inverses])
        # d / (s + λ)^k, each the last one times 1 / (s + λ)
        first = powers * data
        second = first * powers
        return torch.cat([first, second, second * powers])

    def subset_sums(self, masks: ArrayLike) -> SubsetSums:
        train, engine = self.spectrum.train, self.spectrum.problem.engine
        masks = check_masks(masks, len(train))
        weighted = torch.as_tensor(masks, device=self.train_weights.device) * self.train_weights
        weighted = weighted.to(engine.task.dtype)
        needed = 3 * weighted.element_size() * len(weighted) * len(self.spectrum.table)
        if needed > engine.held_memory // 3:
            return ScoreSums(self, weighted)
        sums = weighted.new_zeros(len(weighted), len(self.spectrum.table))
        for rows, features in train:
            # Σ_{j in subset} w_j/W c_j
            sums += features.weighted_sums(weighted[:, rows])
        return KroneckerSums(self, sums)


def _forms(bases: dict[str, BlockBasis], tables: Tensor, features: Any) -> Tensor:
    """``Σ_k tables[j, k] c_ik²`` over all blocks, (n_rows, n_tables) in float64."""
    total = torch.zeros(len(features), len(tables), dtype=torch.float64, device=tables.device)
    for name, basis in bases.items():
        block = features.blocks[name]
        own = tables[:, basis.columns].to(block.dtype)
        # Σ_k tables[j, k] c_ik² of the block
        total += block.quadratic_forms(own, features.workspace)
    return total


def _products(bases: Any, inverse: Tensor, plan: Any, queries: list, train: Any) -> Tensor:
    """Products of all queries with a batch, as a worker makes them."""
    n_queries = queries[-1][0].stop
    out = torch.zeros(n_queries, len(train), dtype=train.dtype, device=train.device)
    _add_products(bases, inverse, plan, queries, train, out)
    return out


def _add_products(
    bases: dict[str, BlockBasis],
    inverse: Tensor,
    plan: dict[str, list[Tile]],
    queries: Iterable[tuple[slice, Any]],
    train: Any,
    out: Tensor,
) -> None:
    for rows, features in queries:
        for name, basis in bases.items():
            block, own = features.blocks[name], train.blocks[name]
            columns = inverse[basis.columns]
            add_products(block, own, columns, plan.get(name), out[rows], features.workspace)


@dataclass
class KroneckerSums(SubsetSums):
    """Sums of scores over subsets, from the subsets' summed coordinates.

    Attributes
    ----------
    path : KroneckerPath
    sums : Tensor of shape (n_subsets, p)
        ``Σ_{j in subset} w_j / W`` times the coordinates of training example j.
    """

    path: KroneckerPath
    sums: Tensor

    def at(self, damping: ArrayLike) -> np.ndarray:
        dampings = np.asarray(damping, dtype=np.float64)
        flat = dampings.reshape(-1)
        out = np.empty((len(flat), len(self.path.queries), len(self.sums)))
        for i, value in enumerate(flat):
            inverse = self.path.spectrum.inverse_table(float(value)).to(self.sums)
            # -diag(1 / (s + λ)) Sᵀ, (p, n_subsets), which C_f is multiplied with
            damped = (self.sums * -inverse).mT
            for rows, features in self.path.queries:
                out[i, rows] = features.matmul(damped).cpu().numpy()
        return out.reshape(*dampings.shape, *out.shape[1:])


@dataclass
class ScoreSums(SubsetSums):
    """Sums of scores over subsets, computed from the scores if summed coordinates do not fit.

    Attributes
    ----------
    path : KroneckerPath
    weighted : Tensor of shape (n_subsets, n_train)
        Masks times ``w_j / W``.
    """

    path: KroneckerPath
    weighted: Tensor

    def at(self, damping: ArrayLike) -> np.ndarray:
        dampings = np.asarray(damping, dtype=np.float64)
        sums = [
            # -Σ_{j in subset} w_j/W <∇f_i, (A + λI)⁻¹ ∇loss_j>
            -(self.path.products(float(d)) @ self.weighted.mT).double().cpu().numpy()
            for d in dampings.reshape(-1)
        ]
        return np.stack(sums).reshape(*dampings.shape, *sums[0].shape)
