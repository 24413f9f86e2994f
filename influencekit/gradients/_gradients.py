"""The gradients of some examples as one object: iterated, multiplied, summed, kept."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import joblib
import torch
from torch import Tensor

from influencekit.data._examples import Examples
from influencekit.gradients._cotangents import CotangentFunction, Shifted, Stacked
from influencekit.gradients._engine import GradientEngine
from influencekit.gradients._features import GradientFeatures
from influencekit.gradients._operations import Operations
from influencekit.gradients._store import FeatureStore, pieces, require_disk, rows_of
from influencekit.gradients._workers import as_made
from influencekit.utils.validation import present

__all__ = ["Gradients"]

#: Times ``held_memory`` up to which gradients go to the disk; larger ones are computed again.
_SPILLED = 64
#: Largest ``held_memory`` whose freed arrays are counted, which takes about a millisecond; they may
#: take half of it: with a quarter, passes take half as long again.
_TIGHT, _FREED = 2**28, 2


class Gradients(Operations):
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
    ahead : bool, default=False
        Compute the whole first batch immediately, which the next pass takes.

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
        ahead: bool = False,
    ):
        self.engine = engine
        self.examples = examples
        self.cotangent = cotangent
        self.shares = shares
        self.keep_factors = keep_factors
        self.parts: Sequence[GradientFeatures] | None = None
        self._function: Callable[[GradientFeatures], GradientFeatures] | None = None
        self._known: dict[Any, Tensor] = {}
        self._ahead: list[tuple[GradientFeatures, Callable[[], bool]]] = []
        self._look(ahead and joblib.effective_n_jobs(None) == 1)

    def _look(self, ahead: bool = False) -> None:
        """Compute the gradients of the first example, whose size is assumed for each."""
        self._ahead, given = [], (self.examples, self.cotangent, self.keep_factors)
        made = self.engine.first_batch(*given) if ahead else None
        if made is None:
            self.sample, self._batch_size = self.engine.first(*given)
        else:
            features, self._batch_size, stays = made
            self._ahead, self.sample = [(features, stays)], _copied(features[:1])
        # a lone example is not computed again by its passes
        self._lone = self.sample if len(self) == 1 else None

    def __len__(self) -> int:
        return len(self.examples)

    def __repr__(self) -> str:
        return f"Gradients({self.examples!r}, {self.cotangent!r})"

    # -- size -----------------------------------------------------------------------------

    @property
    def nbytes(self) -> int:
        """Bytes of all gradients as stored, assuming the size of the first example for each."""
        return len(self) * self.sample.nbytes

    @property
    def batch_bytes(self) -> int:
        """Bytes of a batch as stored."""
        return min(len(self), self.batch_size) * self.sample.nbytes

    # -- passes ---------------------------------------------------------------------------

    def passed(self, pairs: bool) -> Iterator[tuple[slice, GradientFeatures, GradientFeatures]]:  # noqa: ARG002  others' pairs differ
        """Batches in order: their rows, features, and the features that notes are taken of."""
        start = 0
        for features in self._batches() if self.parts is None else self.parts:
            rows = slice(start, start + len(features))
            yield rows, features, features
            start = rows.stop

    def noting(self, pairs: bool) -> Gradients:  # noqa: ARG002  others' pairs differ
        """The gradients whose notes a pass takes."""
        return self

    @property
    def is_held(self) -> bool:
        """Whether passes do not run the model."""
        return self.parts is not None

    @property
    def most_freed(self) -> int | None:
        """Bytes of freed arrays that the C library may keep; None for any number."""
        budget = self.engine.held_memory
        return budget // _FREED if budget <= _TIGHT else None

    @property
    def is_ahead(self) -> bool:
        """Whether the first batch is there and waits for a pass."""
        return bool(self._ahead)

    @property
    def batch_size(self) -> int:
        """Examples of a batch."""
        return self._batch_size

    def _batches(self) -> Iterator[GradientFeatures]:
        made: Iterator[GradientFeatures]
        if self._lone is not None:
            made = iter((self._lone,))
        else:
            given = (self.examples, self.cotangent, self._batch_size, self.keep_factors)
            made = self.engine.batches(*given, self._made())
        return made if self._function is None else map(self._function, made)

    def _made(self) -> GradientFeatures | None:
        """The first batch, if it was computed ahead and the module is as it was; once."""
        if not self._ahead:
            return None
        features, stays = self._ahead.pop()
        return features if stays() else None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_ahead": []}

    # -- others made of these -------------------------------------------------------------

    def _but(self, **changes: Any) -> Gradients:
        other = copy.copy(self)
        other.__dict__.update({"_ahead": self._ahead} | changes)
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
        return self._but(
            examples=examples, parts=parts, shares=None, _known={}, _lone=None, _ahead=[]
        )

    def part(self, rows: slice, examples: Examples | None = None) -> Gradients:
        """Gradients of a slice of the examples, to be sent to a worker.

        Parameters
        ----------
        rows : slice
        examples : Examples, optional
            Those of the slice, with their inputs.
        """
        if examples is None:
            examples = self.examples.take(rows)
            examples = examples if examples.source.tree is None else examples.gathered()
        noted = self.shares is None or "mean" in self._known
        return self._but(
            engine=self.engine.quiet(),
            examples=examples,
            cotangent=Shifted(self.cotangent, rows.start),
            shares=None if noted else present(self.shares, "shares")[rows].clone(),
            _known={},
            _lone=None,
            _ahead=[],
        )

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
            Bytes that may stay in memory, of the engine's ``held_memory``.
        spill : bool, default=False
            Keep the rest too, in a temporary folder, up to 64 times ``held_memory``.

        Raises
        ------
        OSError
            If the temporary folder has no room for the rest.
        """
        if self.parts is not None:
            return self
        if self.nbytes <= memory:
            return self.kept(pieces(f for _, f in self.results(as_made)))
        if spill and self.nbytes <= _SPILLED * self.engine.held_memory:
            require_disk(self.nbytes - memory)
            return self.kept(FeatureStore((f for _, f in self.results(as_made)), memory))
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


class _Beside(Gradients):
    """Gradients that share their forward passes with ``other``, see :meth:`Gradients.along`."""

    def __init__(self, other: Gradients, cotangent: CotangentFunction, keep_factors: bool):
        super().__init__(other.engine, other.examples, cotangent, keep_factors=keep_factors)
        self.other = other
        stacked = Stacked(cotangent, other.cotangent)
        self._both = Gradients(self.engine, self.examples, stacked, keep_factors=keep_factors)

    def passed(self, pairs: bool) -> Iterator[tuple[slice, GradientFeatures, GradientFeatures]]:
        if self._alone and not pairs:
            yield from super().passed(pairs)
            return
        compact = not pairs and self._both.parts is None
        for rows, both in self._both:
            last = both.rows_per_example - 1
            features, own = both.rows(slice(0, last)), both.rows(slice(last, None))
            features = features.compact() if compact else features
            if self._function is not None and not pairs:
                features = self._function(features)
            yield rows, features, own

    @property
    def _alone(self) -> bool:
        """Whether a pass computes these gradients without the others."""
        noted = "mean" in self.other._known or self.other.shares is None  # noqa: SLF001  notes that both keep
        return self.parts is not None or (noted and self._both.parts is None)

    def noting(self, pairs: bool) -> Gradients:
        return self if self._alone and not pairs else self.other

    @property
    def is_held(self) -> bool:
        return self.parts is not None or self._both.parts is not None

    def part(self, rows: slice, examples: Examples | None = None) -> Gradients:
        own = super().part(rows, examples)
        parts = (one.part(rows, own.examples) for one in (self.other, self._both))
        return own._but(**dict(zip(("other", "_both"), parts, strict=True)))  # noqa: SLF001  a copy of itself

    def held_pairs(self, memory: int) -> Gradients:
        return self._but(_both=self._both.held(memory))

    def take(self, rows: Any) -> Gradients:
        return Gradients(
            self.engine, self.examples.take(rows), self.cotangent, keep_factors=self.keep_factors
        )


def _copied(features: GradientFeatures) -> GradientFeatures:
    """The same features, which hold no others in memory."""
    blocks = {k: b.replace(*(t.clone() for t in b.tensors)) for k, b in features.blocks.items()}
    return features.with_blocks(blocks)


def _host(rows: Any) -> Tensor:
    return torch.as_tensor(rows).cpu()
