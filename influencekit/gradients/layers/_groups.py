"""Layers by weight, and how far their rules are believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from influencekit.gradients.layers._layers import LOG, AnyLayer

__all__ = ["Group", "Trust"]

#: Numbers that checks may pass through a model before they are limited to a share of all work.
_FREE_WORK = 2**21
_SHARE = 1 / 20
_FEW = 3  # examples of a batch that is too large to be checked as a whole
_CALL = 2**16  # what the call of a module costs, in the same unit


@dataclass(frozen=True)
class Group:
    """Layers with the same weight, and the names of the parameters that they train."""

    layers: tuple[AnyLayer, ...]
    names: tuple[str, ...]

    @property
    def place(self) -> int:
        """First column of the weight."""
        return self.layers[0].place


@dataclass
class Trust:
    """Which layers' rules are believed, and how much work checks may still take.

    Parameters
    ----------
    work : int
        Numbers that one example passes through the model.
    dtype : torch.dtype
        That of the largest rounding in the model.
    lost : dict of int to int
        Groups, by place, whose rule was wrong, with the number of other ways that failed too.
    credit : float
        Work that may still go to checks.
    """

    work: int
    dtype: torch.dtype
    lost: dict[int, int] = field(default_factory=dict)
    credit: float = _FREE_WORK

    def lose(self, groups: Sequence[Group], reason: str) -> None:
        """Believe the rules of these layers no more."""
        for group in groups:
            if group.place not in self.lost:
                LOG.debug("%s: %s, so it is differentiated", group.layers[0].name, reason)
                self.lost[group.place] = 0

    def positions(self, n: int, last: bool) -> Tensor | None:
        """Examples of a batch of n that are checked: all or a few, as the work allows; or None.

        Before the last batch, which is always checked, the work for that stays in reserve.
        """
        affordable = (self.credit - _CALL) // self.work
        size = n if affordable >= n else min(n, _FEW)
        reserve = 0 if last else _FEW + _CALL / self.work
        checked = last or affordable >= size + reserve
        self.credit += n * self.work * _SHARE - checked * (size * self.work + _CALL)
        return torch.linspace(0, n - 1, size).round().long() if checked else None
