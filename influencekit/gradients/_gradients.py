"""The gradients of some examples as one object: iterated, multiplied, summed, kept."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from influencekit.data._examples import Examples
from influencekit.gradients._cotangents import CotangentFunction, Stacked
from influencekit.gradients._dot import all_dots, all_self_dots
from influencekit.gradients._engine import GradientEngine
from influencekit.gradients._features import GradientFeatures
from influencekit.gradients._notes import Notes
from influencekit.gradients._store import FeatureStore, disk_room, on_disk, pieces, rows_of
from influencekit.gradients.blocks._base import row_slice, symmetrize
from influencekit.utils._long_work import format_bytes

__all__ = ["Gradients"]


class Gradients:
    """The gradients of some examples, computed in batches whenever they are needed.

    ``for rows, features in gradients`` iterates over them: ``rows`` is the slice of examples that
    ``features`` belong to.  Every operation is one such pass.

    Parameters
    ----------
    engine : GradientEngine
    examples : Examples
    cotangent : callable
        ``(outputs, targets) -> (n, R, *output_shape)``: R gradients for each example.
    shares : Tensor of shape (n_examples,), optional
        Weights of :meth:`mean`.  If given, the first pass over all examples, for any purpose, also
        computes and keeps :meth:`mean` and :meth:`squared_norms` in the model's own dtype.
    keep_factors : bool, default=False
        Keep the input and output factors of every layer that has them, even if the dense gradient
        is smaller (small kernels on large images).

    Attributes
    ----------
    sample : GradientFeatures
        Gradients of the first example, computed immediately.
    """

    def __init__(
        self,
        engine: GradientEngine,
        examples: Examples,
        cotangent: CotangentFunction,
        *,
        shares: Tensor | None = None,
        keep_factors: bool = False,
    ):
        self.engine = engine
        self.examples = examples
        self.cotangent = cotangent
        self.shares = shares
        self.keep_factors = keep_factors
        self.parts: Sequence[GradientFeatures] | None = None
        self._function: Callable[[GradientFeatures], GradientFeatures] | None = None
        self._known: dict[Any, Tensor] = {}
        self._look()

    def _look(self) -> None:
        """Compute the gradients of the first example, whose size is assumed for each."""
        self.sample, self._batch_size = self.engine.first(
            self.examples, self.cotangent, self.keep_factors
        )
        # a lone example is not computed again by its passes
        self._lone = self.sample if len(self) == 1 else None

    def __len__(self) -> int:
        return len(self.examples)

    def __repr__(self) -> str:
        return f"Gradients({self.examples!r}, {self.cotangent!r})"

    # -- size -----------------------------------------------------------------------------

    @property
    def rows_per_example(self) -> int:
        """Gradients of one example."""
        return self.sample.rows_per_example

    @property
    def n_rows(self) -> int:
        """Number of gradients."""
        return len(self) * self.rows_per_example

    @property
    def nbytes(self) -> int:
        """Bytes of all gradients as stored, assuming the size of the first example for each."""
        return len(self) * self.sample.nbytes

    # -- passes ---------------------------------------------------------------------------

    def __iter__(self) -> Iterator[tuple[slice, GradientFeatures]]:
        notes, start = Notes(self), 0
        for features in self._batches() if self.parts is None else self.parts:
            rows = slice(start, start + len(features))
            notes.add(rows, features)
            yield rows, features
            start = rows.stop
        notes.close()

    def _batches(self) -> Iterator[GradientFeatures]:
        made: Iterator[GradientFeatures]
        if self._lone is not None:
            made = iter((self._lone,))
        else:
            made = self.engine.batches(
                self.examples, self.cotangent, self._batch_size, self.keep_factors
            )
        return made if self._function is None else map(self._function, made)

    def pairs(self) -> Iterator[tuple[slice, GradientFeatures, GradientFeatures]]:
        """One pass over these gradients and those computed together with them, see :meth:`along`.

        Both may be views of one tensor.
        """
        for rows, features in self:
            yield rows, features, features

    # -- others made of these -------------------------------------------------------------

    def _but(self, **changes: Any) -> Gradients:
        other = copy.copy(self)
        other.__dict__.update(changes)
        return other

    def take(self, rows: Any) -> Gradients:
        """Gradients of some of the examples.

        Parameters
        ----------
        rows : slice, int array-like or bool mask of shape (n_examples,)
        """
        examples, parts = self.examples.take(rows), None
        if self.parts is not None:
            places = torch.arange(len(self))[rows if isinstance(rows, slice) else _host(rows)]
            parts = [rows_of(self.parts, places.to(self.sample.device))]
        return self._but(examples=examples, parts=parts, shares=None, _known={}, _lone=None)

    def map(self, function: Callable[[GradientFeatures], GradientFeatures]) -> Gradients:
        """Gradients that are transformed as they are computed, for instance into another basis.

        Parameters
        ----------
        function : callable
            Function from the features of some examples to other features of the same examples.
        """
        sample = function(self.sample)
        return self._but(_function=function, sample=sample, shares=None, _known={}, parts=None)

    def held(self, memory: int, *, spill: bool = False) -> Gradients:
        """The same gradients, kept if they fit, so that later passes do not run the model.

        Those that fit are in the same pieces with ``spill`` as without, so sums have the same bits.

        Parameters
        ----------
        memory : int
            Bytes that may stay in memory.
        spill : bool, default=False
            Write the rest to a temporary folder, if the disk has room.
        """
        if self.parts is not None:
            return self
        if self.nbytes <= memory:
            return self.kept(pieces(f for _, f in self))
        if spill and disk_room() > 2 * self.nbytes:
            return self.kept(FeatureStore((f for _, f in self), memory))
        return self

    def held_pairs(self, memory: int) -> Gradients:
        """The same gradients, kept if they fit together with those computed along with them."""
        return self.held(memory)

    def kept(self, parts: Iterable[GradientFeatures]) -> Gradients:
        """The same gradients, already computed: features of all examples in order."""
        return self._but(parts=parts if isinstance(parts, FeatureStore) else list(parts))

    def along(self, cotangent: CotangentFunction, *, keep_factors: bool = False) -> Gradients:
        """Other gradients of the same examples, whose passes also compute these.

        The first pass over them computes both from one forward pass of the model, so :meth:`mean`
        and :meth:`squared_norms` of these do not need another pass.

        Parameters
        ----------
        cotangent : callable
        keep_factors : bool, default=False
        """
        if cotangent != self.cotangent:
            return _Beside(self, cotangent, keep_factors)
        if keep_factors == self.keep_factors or self.parts is not None:
            return self
        other = self._but(keep_factors=keep_factors)
        other._look()  # noqa: SLF001  a copy of itself
        return other

    # -- operations -----------------------------------------------------------------------

    def features(self) -> GradientFeatures:
        """All gradients, in memory.

        Raises
        ------
        ResourceError
            If they would take more than ``max_memory``.
        """
        each = self.sample.nbytes
        self.engine.require(
            len(self) * each,
            f"gradients of {len(self):,} examples at {format_bytes(each)} each",
            "Use dot, project or a loop over the batches, which need less memory",
        )
        return GradientFeatures.cat([features for _, features in self])

    def matrix(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """Dense gradients, (n_rows, n_parameters)."""
        out = self._empty(self.engine.task.n_parameters, dtype)
        for rows, features in self:
            out[row_slice(rows, features.rows_per_example)] = features.materialize(dtype)
        return out

    def project(self, projection: Any, dtype: torch.dtype = torch.float64) -> Tensor:
        """Projected gradients, (n_rows, projection.dim)."""
        out = self._empty(projection.dim, dtype)
        for rows, features in self:
            out[row_slice(rows, features.rows_per_example)] = features.project(projection)
        return out

    def __matmul__(self, matrix: Tensor) -> Tensor:
        """Products with ``matrix`` (n_parameters, k): (n_rows, k), in its dtype."""
        out = self._empty(matrix.shape[1], matrix.dtype)
        for rows, features in self:
            out[row_slice(rows, features.rows_per_example)] = features.matmul(matrix)
        return out

    def _empty(self, n_columns: int, dtype: torch.dtype) -> Tensor:
        """An empty array with one row of numbers for every gradient; on disk if it is large."""
        needed = self.n_rows * n_columns * dtype.itemsize
        on_cpu = self.engine.task.device.type == "cpu"
        if needed > self.engine.max_memory // 2 and on_cpu and disk_room() > 2 * needed:
            return on_disk((self.n_rows, n_columns), dtype)
        self.engine.require(
            needed,
            f"{self.n_rows:,} rows of {n_columns:,} numbers",
            "Use fewer rows or columns (a projection)",
        )
        return torch.empty(self.n_rows, n_columns, dtype=dtype, device=self.engine.task.device)

    def dot(
        self,
        other: Gradients,
        dtype: torch.dtype = torch.float64,
        *,
        products: torch.dtype | None = None,
    ) -> Tensor:
        """Dot products of all pairs of gradients, (n_rows, other.n_rows).

        Gradients that do not fit into ``max_memory`` go to a temporary folder. If the other
        gradients are the same, each pair is computed once.

        Parameters
        ----------
        other : Gradients
            Gradients of the same model.
        dtype : torch.dtype, default=torch.float64
            dtype of the result.
        products : torch.dtype, optional
            dtype of the products of each layer, which are then summed in ``dtype``: that of the
            gradients is fast, and as precise as they are. None is ``dtype``, which makes the
            products of gradients with themselves a positive semidefinite matrix.

        Raises
        ------
        ResourceError
            If the result alone would take more than ``max_memory``.
        """
        shape, engine = (self.n_rows, other.n_rows), self.engine
        needed = shape[0] * shape[1] * torch.finfo(dtype).bits // 8 + 2 * engine.workspace
        engine.require(
            needed,
            f"dot products of {shape[0]:,} x {shape[1]:,} gradients",
            "Use fewer examples at once, or project the gradients",
        )
        out = torch.empty(shape, dtype=dtype, device=engine.task.device)
        memory = engine.max_memory - needed
        if self.is_same(other):
            return all_self_dots(self, out, memory)
        all_dots(self, other, out, memory, products or dtype)
        return out

    def is_same(self, other: Gradients) -> bool:
        """Whether other gradients are the same as these: same examples, same cotangent."""
        same = self.examples is other.examples and self._function is other._function
        return same and self.cotangent == other.cotangent

    def squared_norms(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """Squared norm of every gradient, (n_rows,), remembered."""
        if dtype not in self._known:
            norms = torch.cat([features.squared_norms(dtype) for _, features in self])
            self._known[dtype] = norms
        return self._known[dtype]

    def mean(self) -> Tensor:
        """Sum of all gradients weighted by ``shares``, (n_parameters,) in float64, remembered."""
        if "mean" not in self._known:
            for _ in self:
                pass
        return self._known["mean"]

    def sums(self, weights: Tensor) -> Tensor:
        """Sums of gradients: weights (g, n_rows) -> (g, n_parameters)."""
        out = weights.new_zeros(len(weights), self.engine.task.n_parameters)
        for rows, features in self:
            own = row_slice(rows, features.rows_per_example)
            out += features.weighted_sums(weights[:, own])
        return out

    def covariance(
        self, weights: Tensor | None = None, dtype: torch.dtype = torch.float64
    ) -> Tensor:
        """``Σ_rows w g gᵀ``, (n_parameters, n_parameters), streamed.

        Parameters
        ----------
        weights : Tensor of shape (n_rows,), optional
            Weight of every gradient; None is 1.
        dtype : torch.dtype, default=torch.float64
        """
        p = self.engine.task.n_parameters
        self.engine.require(
            p * p * torch.finfo(dtype).bits // 8,
            f"a covariance of {p:,} x {p:,} numbers",
            "Project the gradients, use the Gram matrix (dot)",
        )
        out = torch.zeros(p, p, dtype=dtype, device=self.engine.task.device)
        for rows, features in self:
            own = row_slice(rows, features.rows_per_example)
            features.add_covariance(None if weights is None else weights[own], out)
        return symmetrize(self.engine.layout(self.examples).specs, out)


class _Beside(Gradients):
    """Gradients that share their forward passes with ``other``, see :meth:`Gradients.along`."""

    def __init__(self, other: Gradients, cotangent: CotangentFunction, keep_factors: bool):
        super().__init__(other.engine, other.examples, cotangent, keep_factors=keep_factors)
        self.other = other
        stacked = Stacked(cotangent, other.cotangent)
        self._both = Gradients(self.engine, self.examples, stacked, keep_factors=keep_factors)

    def __iter__(self) -> Iterator[tuple[slice, GradientFeatures]]:
        noted = "mean" in self.other._known or self.other.shares is None  # noqa: SLF001  notes that both keep
        kept = self._both.parts is not None
        if self.parts is not None or (noted and not kept):
            yield from super().__iter__()
            return
        for rows, features, _ in self.pairs():
            features = features if kept else features.compact()
            yield rows, features if self._function is None else self._function(features)

    def pairs(self) -> Iterator[tuple[slice, GradientFeatures, GradientFeatures]]:
        notes = Notes(self.other)
        for rows, both in self._both:
            last = both.rows_per_example - 1
            own = both.rows(slice(last, None))
            notes.add(rows, own)
            yield rows, both.rows(slice(0, last)), own
        notes.close()

    def held_pairs(self, memory: int) -> Gradients:
        return self._but(_both=self._both.held(memory))

    def take(self, rows: Any) -> Gradients:
        return Gradients(
            self.engine, self.examples.take(rows), self.cotangent, keep_factors=self.keep_factors
        )


def _host(rows: Any) -> Tensor:
    return torch.as_tensor(rows).cpu()
