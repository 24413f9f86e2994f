"""What projections of gradients share, and those by one dense random matrix."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from influencekit.gradients._features import GradientFeatures
from influencekit.gradients.projections._random import random_rows

__all__ = ["DenseProjection", "IdentityProjection", "Projection"]

_CACHE = 2**28  # bytes of random numbers cached by a projection between calls, at most


class Projection(ABC):
    """A linear map of gradients to ``dim`` numbers with ``E<Px, Py> = <x, y>``.

    Call it on :class:`~influencekit.gradients.GradientFeatures`.  It stores a seed rather than
    numbers, so its pickle is small, and it gives the same result on every device (up to rounding).

    Parameters
    ----------
    dim : int
        Numbers that a gradient becomes.
    n_parameters : int
        Number of parameters, the dimension of a gradient.
    seed : int
        Seed for the random entries.
    cache : int
        Bytes of random numbers that are kept between calls; others are drawn again.

    Attributes
    ----------
    dim : int
        Numbers that a gradient becomes.
    projection : str
    """

    projection: str

    def __init__(self, dim: int, n_parameters: int, seed: int, *, cache: int = _CACHE):
        self.dim = dim
        self.n_parameters = n_parameters
        self.seed = seed
        self.cache = min(cache, _CACHE)
        self._cache: dict = {}

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_cache": {}}

    def __repr__(self) -> str:
        said = f"projection={self.projection!r}, dim={self.dim}, seed={self.seed}"
        return f"{type(self).__name__}({said})"

    def __call__(self, features: GradientFeatures) -> Tensor:
        """Projected gradients (n_rows, dim), in the dtype of the features."""
        if features.n_parameters != self.n_parameters:
            raise ValueError(
                f"projection: made for {self.n_parameters:,} parameters, but these gradients have "
                f"{features.n_parameters:,}. Make one for this task with make_projection."
            )
        return self.apply(features)

    @abstractmethod
    def apply(self, features: GradientFeatures) -> Tensor:
        """Project features of the right size."""

    def random(self, law: str, name: str, start: int, stop: int, dim: int, like: Tensor) -> Tensor:
        """Rows of a named random matrix, cached if they are few."""
        key = (law, name, start, stop, dim, like.dtype, like.device)
        if key not in self._cache:
            drawn = random_rows(law, self.seed, name, start, stop, dim, like)
            held = sum(t.numel() * t.element_size() for t in self._cache.values())
            if held + drawn.numel() * drawn.element_size() > self.cache:
                return drawn
            self._cache[key] = drawn
        return self._cache[key]


class IdentityProjection(Projection):
    """The identity, used if ``dim`` is at least the number of parameters."""

    projection = "identity"

    def apply(self, features: GradientFeatures) -> Tensor:
        return features.materialize()


class DenseProjection(Projection):
    """A dense random matrix (n_parameters, dim), drawn in pieces and not stored if large.

    Parameters
    ----------
    projection : {"rademacher", "gaussian"}
    """

    def __init__(
        self,
        dim: int,
        n_parameters: int,
        seed: int,
        projection: str = "rademacher",
        *,
        cache: int = _CACHE,
    ):
        super().__init__(dim, n_parameters, seed, cache=cache)
        self.projection = projection

    def apply(self, features: GradientFeatures) -> Tensor:
        like = torch.empty(0, dtype=features.dtype, device=features.device)

        def rows(start: int, stop: int) -> Tensor:
            return self.random(self.projection, "all", start, stop, self.dim, like)

        return features.matmul_rows(rows, self.dim, features.dtype).mul_(self.dim**-0.5)
