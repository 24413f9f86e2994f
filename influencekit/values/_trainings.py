"""Trainings on subsets, asked for a few at a time, and all that they said."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from influencekit.training.subsets._subset_outputs import SubsetOutputs
from influencekit.utils._random import draw_seed
from influencekit.values._empty_model import EmptyModel

__all__ = ["Trainings"]


class Trainings:
    """Outputs of models trained on subsets, in the order in which they were asked for.

    A classifier cannot be trained on a subset that lacks a class: the outputs of the best
    constant prediction stand there.

    Parameters
    ----------
    retrain : callable
        ``retrain(masks, seed) -> SubsetOutputs``.
    classes : ndarray of int of shape (n_train,) or None
        Class of every row; None for models without classes.
    empty : EmptyModel
    rng : RandomState
        Of subsets and seeds.

    Attributes
    ----------
    start : float
        A random number in [0, 1), for a design that goes on from call to call.
    masks : ndarray of bool of shape (n_subsets, n_train)
        All subsets so far.
    n_trained : int
        Models that were trained.
    """

    def __init__(
        self,
        retrain: Callable[[NDArray, int], SubsetOutputs],
        n_train: int,
        classes: NDArray | None,
        empty: EmptyModel,
        rng: np.random.RandomState,
    ):
        self.retrain, self.classes, self.empty, self.rng = retrain, classes, empty, rng
        self.start = rng.random_sample()
        self._seeds = np.random.RandomState(draw_seed(rng))  # the same whatever was drawn of rng
        self.masks = np.zeros((0, n_train), dtype=bool)
        self.n_trained = 0
        self._parts: list[SubsetOutputs] = []

    def __call__(self, masks: NDArray) -> NDArray:
        """Outputs (n_subsets, n_query) of models trained on more subsets."""
        seed, able = draw_seed(self._seeds), self._able(masks)
        part = self.retrain(masks[able], seed) if able.any() else None
        if part is None or not able.all():
            part = self._filled(masks, able, part)
        self.masks = np.concatenate([self.masks, masks])
        self.n_trained += int(able.sum())
        self._parts.append(part)
        return part.mean_outputs()

    def together(self, order: NDArray | None = None) -> SubsetOutputs:
        """Everything so far as one, in another order of the subsets if one is given."""
        order = np.arange(len(self.masks)) if order is None else order
        outputs = np.concatenate([part.outputs for part in self._parts])
        seeds = np.concatenate([part.seeds for part in self._parts])
        name = self._parts[0].output
        return SubsetOutputs(self.masks[order], outputs[order], seeds[order], name)

    def _able(self, masks: NDArray) -> NDArray:
        """Subsets that a model can be trained on."""
        able = np.ones(len(masks), dtype=bool)
        for label in [] if self.classes is None else np.unique(self.classes):
            able &= masks[:, self.classes == label].any(axis=1)
        return able

    def _filled(
        self, masks: NDArray, able: NDArray, trained: SubsetOutputs | None
    ) -> SubsetOutputs:
        """Outputs of trainings, with those of the constant among them."""
        constant = self.empty.outputs
        n_repeats = 1 if trained is None else trained.outputs.shape[1]
        outputs = np.tile(constant, (len(masks), n_repeats, 1))
        seeds = np.zeros((len(masks), n_repeats), dtype=np.int64)
        name = self.empty.output if isinstance(self.empty.output, str) else "output"
        if trained is not None:
            outputs[able], seeds[able], name = trained.outputs, trained.seeds, trained.output
        return SubsetOutputs(masks, outputs, seeds, name)
