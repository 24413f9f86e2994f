"""Coordinates of several models side by side, one row of numbers for an example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from influencekit.attributors.along_the_run._fitted_run import FittedRun
from influencekit.data._examples import Examples, ExamplesList, each
from influencekit.index.maps._base import CoordinateMap
from influencekit.index.maps._map_of import map_of

__all__ = ["Coordinates", "coordinates_of"]

#: Numbers of a checkpoint up to which scores at length 1 have an index: it holds their square.
LONGEST_UNIT = 2**13


@dataclass(eq=False)
class Coordinates:
    """Maps of all models and checkpoints, and how their products are combined.

    Attributes
    ----------
    models : list of list of CoordinateMap
        For each model one map, or one for each checkpoint of its run.
    runs : list of FittedRun or None
        How a run asks its checkpoints; without training examples.
    share : float
        Weight of each model in the sum.
    """

    models: list[list[CoordinateMap]]
    runs: list[Any]
    share: float

    @property
    def is_whole(self) -> bool:
        """Whether this is what a build wrote: a map for each model and checkpoint."""
        lists = isinstance(self.models, list) and all(isinstance(m, list) for m in self.models)
        maps = lists and all(isinstance(one, CoordinateMap) for m in self.models for one in m)
        return maps and len(self.models) == len(self.runs)

    @property
    def dim(self) -> int:
        """Numbers of an example."""
        return sum(one.dim for maps in self.models for one in maps)

    @property
    def n_blocks(self) -> int:
        """Maps of all models together."""
        return sum(map(len, self.models))

    def rows(self, examples: Any, learned: Sequence[np.ndarray]) -> tuple[Tensor, Tensor, Tensor]:
        """Coordinates of training rows with their weights, and what self-influence needs.

        Parameters
        ----------
        examples : Examples or ExamplesList
        learned : sequence of bool ndarray of shape (n,)
            Which rows each model learned from.

        Returns
        -------
        coordinates : Tensor of shape (n, dim), float64
        ratios : Tensor of shape (n, n_blocks), float64
            Factors of the squares of each block in self-influence.
        selves : Tensor of shape (n,), float64
            Self-influence of models without a run.
        """
        slopes = [
            [one.slopes(own).cpu() for one in maps]
            for maps, own in zip(self.models, each(examples), strict=True)
        ]
        masks = [torch.from_numpy(one).double() for one in learned]
        shared = None if len(slopes) == 1 or any(self.runs) else _mean_slopes(slopes, masks)
        blocks, ratios, selves = [], [], torch.zeros(len(masks[0]), dtype=torch.float64)
        for m, (maps, own) in enumerate(zip(self.models, each(examples), strict=True)):
            for one, slope in zip(maps, slopes[m], strict=True):
                shares = self.share / len(maps) * one.shares(own).cpu() * masks[m]
                factors = -shares * (slope if shared is None else shared)
                found, squares = one.rows(own)
                blocks.append(found.cpu() * factors[:, None])
                ratios.append(_quotient(shares * slope.square(), factors.square()))
                selves += ratios[-1] * factors.square() * squares.cpu()
        return torch.cat(blocks, dim=1), torch.stack(ratios, dim=1), selves

    def queries(self, queries: Any) -> Tensor:
        """Coordinates of queries, (m, dim), float64."""
        blocks = []
        for maps, run, own in zip(self.models, self.runs, each(queries), strict=True):
            pairs = ((maps[0], own),) if run is None else run.asked(own)
            blocks += [one.queries(asked) for one, asked in pairs]
        return torch.cat(blocks, dim=1).cpu()

    @property
    def is_unit(self) -> bool:
        """Whether a query's scores at each checkpoint are divided by their length."""
        return any(run is not None and run.slopes == "unit" for run in self.runs)

    def by_block(self, numbers: Tensor) -> tuple[Tensor, ...]:
        """Numbers (n, dim) of each map, (n, own dim)."""
        return numbers.split([one.dim for maps in self.models for one in maps], dim=1)

    def at_length(self, asked: Tensor, grams: Sequence[Tensor]) -> Tensor:
        """Queries whose scores at each checkpoint have the length that the mean gives them.

        Parameters
        ----------
        asked : Tensor of shape (m, dim), float64
        grams : sequence of Tensor
            ``Σ_j r_j r_jᵀ`` of the rows that count, for each map.
        """
        parts = []
        for own, gram, share in zip(self.by_block(asked), grams, self._shares[:, 0], strict=True):
            # ‖(qᵀr_1, ..., qᵀr_n)‖² = qᵀ (Σ_j r_j r_jᵀ) q
            lengths = ((own @ gram) * own).sum(1, keepdim=True).clamp_min(0).sqrt()
            parts.append(own * torch.where(lengths > 0, share / lengths, 0.0))
        return torch.cat(parts, dim=1)

    def products(self, queries: Tensor, rows: Tensor) -> Tensor:
        """Products of numbers of queries and rows in each map, (n_blocks, m, n)."""
        pairs = zip(self.by_block(queries), self.by_block(rows), strict=True)
        return torch.stack([asked @ own.mT for asked, own in pairs])

    def combined(self, products: Tensor) -> Tensor:
        """Scores (m, n) from products with all rows that count in each map."""
        if self.is_unit:
            lengths = torch.linalg.vector_norm(products, dim=2, keepdim=True)
            products = products * torch.where(lengths > 0, self._shares / lengths, 0.0)
        return products.sum(0)

    @property
    def _shares(self) -> Tensor:
        """Weight of each map in the sum, (n_blocks, 1, 1)."""
        found = [self.share / len(maps) for maps in self.models for _ in maps]
        return torch.tensor(found, dtype=torch.float64)[:, None, None]

    def metric(self) -> Tensor:
        """Weights (n_blocks, dim) of squared coordinates in self-influence; 0 in other blocks."""
        parts = [one.metric().cpu() for maps in self.models for one in maps]
        return torch.block_diag(*[part[None] for part in parts])

    @property
    def has_damping(self) -> bool:
        """Whether every map has a damping that may be changed."""
        return all(hasattr(one, "at") for maps in self.models for one in maps)

    @property
    def damping(self) -> np.ndarray:
        """λ in use, one for each map."""
        return np.array([one.damping for maps in self.models for one in maps])  # type: ignore[attr-defined]

    def whole(self) -> Coordinates:
        """The same coordinates without projections that the index adds."""
        return self._with_maps([[one.whole() for one in maps] for maps in self.models])

    def at(self, damping: float) -> Coordinates:
        """The same coordinates at another damping."""
        return self._with_maps([[one.at(damping) for one in maps] for maps in self.models])  # type: ignore[attr-defined]

    def explaining(self, output: Any) -> Coordinates:
        """The same coordinates for queries with another output."""
        found = self._with_maps([[one.explaining(output) for one in m] for m in self.models])
        runs = [None if run is None else run.explaining(output) for run in found.runs]
        return replace(found, runs=runs)

    def _with_maps(self, models: list[list[Any]]) -> Coordinates:
        pairs = zip(self.runs, models, strict=True)
        runs = [None if run is None else run.holding(maps) for run, maps in pairs]
        return Coordinates(models, runs, self.share)


def _mean_slopes(slopes: list[list[Tensor]], masks: list[Tensor]) -> Tensor:
    """Mean of TRAK's slopes over the models that learned from each row, (n,)."""
    total = sum(slope * mask for (slope,), mask in zip(slopes, masks, strict=True))
    return total / torch.stack(masks).sum(0).clamp_min(1)


def _quotient(a: Tensor, b: Tensor) -> Tensor:
    return torch.where(b > 0, a / torch.where(b > 0, b, 1.0), 0.0)


def coordinates_of(
    attributor: Any, train: Examples | ExamplesList, projection: dict[str, Any]
) -> Coordinates:
    """The coordinates of a fitted attributor.

    Parameters
    ----------
    attributor : attributor
        Fitted, on all training examples or on some.
    train : Examples or ExamplesList
        All training examples that each model learned from.
    projection : dict
        See :func:`~influencekit.index.maps._map_of.map_of`.

    Returns
    -------
    Coordinates
    """
    models: list[Any] = []
    runs: list[Any] = []
    for fitted, own in zip(attributor.fitted_, each(train), strict=True):
        if isinstance(fitted, FittedRun):
            maps = [map_of(part, own, projection) for part in fitted.parts]
            if fitted.slopes == "unit":
                _check_square(max(one.dim for one in maps))
            runs.append(fitted.holding(maps))
        else:
            maps = [map_of(fitted, own, projection)]
            runs.append(None)
        models.append(maps)
    # the mean, or a sum over checkpoints
    share = float(attributor._combine(np.ones(1), len(models))[0])
    return Coordinates(models, runs, share)


def _check_square(dim: int) -> None:
    """Refuse rows whose products with each other, number by number, are too many to hold."""
    if dim > LONGEST_UNIT:
        raise ValueError(
            f"attributor: got RunAverage(slopes='unit') with {dim:,} numbers for each checkpoint; "
            f"accepted are up to {LONGEST_UNIT:,}, since the length of scores over all rows needs "
            "the square of that. Project to fewer dimensions."
        )
