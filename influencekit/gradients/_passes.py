"""Passes over gradients: one batch after the other here, or slices of batches by workers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from influencekit.gradients._features import GradientFeatures
from influencekit.gradients._notes import Notes
from influencekit.gradients._workers import has_workers, in_slices, own_weights
from influencekit.utils._long_work import return_freed

__all__ = ["Passes"]

#: Bytes of a batch after which freed arrays are counted, which takes a moment.
_LARGE = 2**20


class Passes(ABC):
    """Iteration over the batches of :class:`Gradients`."""

    @abstractmethod
    def passed(self, pairs: bool) -> Iterator[tuple[slice, GradientFeatures, GradientFeatures]]:
        """Batches in order: their rows, features, and the features that notes are taken of."""

    @abstractmethod
    def noting(self, pairs: bool) -> Any:
        """The gradients whose notes a pass takes."""

    @property
    @abstractmethod
    def is_held(self) -> bool:
        """Whether passes do not run the model."""

    @property
    @abstractmethod
    def most_freed(self) -> int | None:
        """Bytes of freed arrays that the C library may keep; None for any number."""

    @property
    def is_shared(self) -> bool:
        """Whether :meth:`results` come from joblib's workers."""
        return not self.is_held and has_workers(self)

    def __iter__(self) -> Iterator[tuple[slice, GradientFeatures]]:
        for rows, features, _ in self._noted(False):
            yield rows, features

    def pairs(
        self, own: Callable | None = None
    ) -> Iterator[tuple[slice, GradientFeatures, GradientFeatures]]:
        """One pass over these gradients and those computed together with them, see ``along``.

        Both may be views of one tensor. ``own`` gives the latter another form, before notes are
        taken of them.
        """
        return self._noted(True, own)

    def results(
        self,
        function: Callable,
        weights: Tensor | None = None,
        *,
        pairs: bool = False,
        own: Callable | None = None,
    ) -> Iterator[tuple[slice, Any]]:
        """What a function makes of each batch, in order; computed by joblib's workers, if any.

        Bits do not depend on the workers, as each batch is computed by one thread of one of them.

        Parameters
        ----------
        function : callable
            ``function(features)``, or ``function(features, weights)``.
        weights : Tensor of shape (..., n_examples) or (..., n_rows), optional
            The function is given the part of each batch.
        pairs : bool, default=False
            The function is given the features of :meth:`pairs` instead.
        own : callable, optional
            As for :meth:`pairs`.

        Yields
        ------
        rows : slice
        found : object
        """
        if self.is_shared:
            yield from in_slices(self, function, weights, pairs, own=own)
            return
        for rows, features, mine in self._noted(pairs, own):
            given = (features, mine) if pairs else (features,)
            yield rows, function(*given, *own_weights(self, weights, rows))

    def _noted(
        self, pairs: bool, own: Callable | None = None
    ) -> Iterator[tuple[slice, GradientFeatures, GradientFeatures]]:
        notes = Notes(self.noting(pairs))
        for rows, features, made in self.passed(pairs):
            mine = made if own is None else own(made)
            notes.add(notes.of(rows, mine))
            yield rows, features, mine
            if self.most_freed is not None and features.nbytes >= _LARGE:
                return_freed(self.most_freed)
        notes.close()
