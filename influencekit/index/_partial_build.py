"""A part of an index, written beside processes that write the others."""

from __future__ import annotations

from numbers import Integral
from typing import Any

from influencekit.data._examples import each
from influencekit.index._build import Plan
from influencekit.index._build_folder import build_part, check_held
from influencekit.index._refresh import RefreshedIndex
from influencekit.utils._torch import with_gradients
from influencekit.utils.validation import validate_parameters

__all__ = ["PartlyBuiltIndex"]


class PartlyBuiltIndex(RefreshedIndex):
    """What lets several processes, which know nothing of each other, build one index."""

    @with_gradients
    def fit_slice(
        self,
        model: Any,
        X: Any,
        y: Any = None,
        *,
        number: int,
        n_slices: int,
        sample_weight: Any = None,
        X_fit: Any = None,
    ) -> int:
        """Write one of several slices of the shards; ``fit`` then finds them and ends the build.

        Each process is given all data and its number, in any order and at any time: the folder is
        all that they share. The first one fits the attributor, the others wait for it. A process
        that was killed is started again with the same number.

        Parameters
        ----------
        model, X, y, sample_weight, X_fit : object
            As in ``fit``.
        number : int
            From 1 to ``n_slices``.
        n_slices : int

        Returns
        -------
        int
            Shards of the whole index that are not written yet.
        """
        if not _whole(n_slices) or n_slices < 1:
            raise ValueError(f"n_slices: got {n_slices!r}; accepted is an int from 1.")
        if not _whole(number) or not 1 <= number <= n_slices:
            raise ValueError(
                f"number: got {number!r}; accepted are ints from 1 to n_slices={n_slices}."
            )
        validate_parameters(self)
        check_held(self.attributor)
        models, train = self._open(model, X, y, sample_weight, X_fit)
        part = (int(number) - 1, int(n_slices))
        return build_part(self, Plan.of(models, train), each(models), part)


def _whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)
