"""A replayed training run: scores, occurrences and errors of its examples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from influencekit.attributors.along_the_run._fitted_sweep import FittedSweep
from influencekit.attributors.along_the_run._trial import (
    FORMS,
    SHARES,
    Form,
    Trial,
    runs_together,
)
from influencekit.data._examples import Examples
from influencekit.training.trajectory._all_rows import AllRowsSweep
from influencekit.training.trajectory._finite_removal import FiniteRemoval
from influencekit.training.trajectory._kinks import kinks_of
from influencekit.training.trajectory._masked_sweep import Mask, MaskedSweep, draw_masks
from influencekit.training.trajectory._replay import Replay
from influencekit.training.trajectory._second_order import Jets
from influencekit.training.trajectory._sweep import Sweep
from influencekit.training.trajectory.rules._rule import Rule
from influencekit.utils._long_work import chunks, held_memory, progress
from influencekit.utils._random import draw_seed

__all__ = ["FittedTrajectory"]

#: What the switching of single units adds to the expected one, as a factor on that: measured on
#: the first seed of the study "error_proxy", and held to on the others.
SWITCHING = 2.0


class FittedTrajectory(FittedSweep):
    """A recorded run with its data, replayed step by step.

    Parameters
    ----------
    attributor : TrajectoryInfluence
        Says what is explained, how examples are removed, and the bounds of memory.
    train : Examples
    replay : Replay
    rule : Rule
        The step that is differentiated.
    """

    sweep: Sweep

    def __init__(self, attributor: Any, train: Examples, replay: Replay, rule: Rule):
        self.removal, self.removal_order = attributor.removal, attributor.removal_order
        self.rule, self.horizon = rule, attributor.horizon
        self.train_rows, self.masks = attributor.train_rows_, _masks(attributor, replay)
        self.all_rows = attributor.rows == "all"
        self.at_once = _at_once(attributor, replay)
        self.form = _first_form(attributor)
        super().__init__(attributor, train, replay, self._sweep(replay, self.form))
        fronts = min(max(self.horizon, 1), replay.n_steps) if self.horizon is not None else 1
        self.n_tensors = 4 * (1 + len(rule.slots)) * fronts
        if self.masks:
            self.n_coordinates = sum(len(mask.coordinates) for mask in self.masks)
        self._expected: dict[Any, NDArray] = {}  # LDS by output

    def _sweep(self, replay: Replay, form: Form) -> Sweep:
        asked = replay, self.rule, form.curvature, self.removal, self.horizon
        if self.masks:
            return MaskedSweep(*asked, self.masks, self.at_once)
        kind = AllRowsSweep if self.all_rows else Sweep
        return kind(*asked, form.smoothing)

    def choose(self) -> None:
        """Take the form of the curvature that predicts trial reruns of the run best.

        The exact form stays for nets without ReLU, and where copies of the model cannot be trained
        together.  Called once, before anything is scored.
        """
        told = self.masks or self.horizon is not None or self.removal_order == "finite"
        if told or self.all_rows or not kinks_of(self.replay)[0] or not runs_together(self):
            return
        trial = Trial(self, self.removal, self.train_rows)
        sweeps = [self._sweep(self.replay, form) for form in FORMS]
        found = [trial.lds(self._totals(s, trial.queries, self.output)) for s in sweeps]
        means = [np.nan_to_num(lds.mean(), nan=-np.inf) for lds in found]
        best = int(np.argmax(means))
        self.form, self.sweep = FORMS[best], sweeps[best]
        self._expected[self.output] = found[best]

    def expected_lds(self) -> dict[float, float]:
        """Estimated LDS against reruns of this run, by the share of rows that they leave out."""
        if self.output not in self._expected:
            trial = Trial(self, self.removal, self.train_rows)
            self._expected[self.output] = trial.lds(self._summed(trial.queries, self.output))
        return dict(zip(SHARES, map(float, self._expected[self.output]), strict=True))

    def proxy(
        self, queries: Examples, rows: Tensor, estimate: str, chunk_size: int
    ) -> tuple[NDArray, NDArray, str, tuple[str, ...]]:
        """Error proxy of some training examples.

        Returns
        -------
        first, error : ndarray of shape (n_queries, n_rows)
            Derivatives, and what they are estimated to miss.
        estimate : str
            The one taken.
        unseen : tuple of str
            Functions of the net with kinks that it does not see.
        """
        soft, hard = kinks_of(self.replay)
        if estimate == "auto":
            estimate = "finite+kinks" if soft or hard else "second_order"
        unseen = hard if "kinks" in estimate else soft | hard
        found = self._errors(queries, rows, estimate, chunk_size)
        return *found, estimate, tuple(sorted(unseen))

    def _errors(
        self, queries: Examples, rows: Tensor, estimate: str, chunk_size: int
    ) -> tuple[NDArray, NDArray]:
        """Derivatives and their errors, each (n_queries, n_rows)."""
        sweep = Sweep(self.replay, removal=self.removal)
        if estimate == "second_order":
            first, second = self._jets(queries, rows, chunk_size)
            return first, -0.5 * second
        if estimate == "finite":
            first, finite = self._pushed(sweep, queries, self.output, rows)
            return first, finite - first
        soft = Sweep(self.replay, curvature="smoothed_hessian", removal=self.removal)
        columns = rows.numpy()
        bent = self._totals(soft, queries, self.output)[:, columns]
        if estimate == "kinks":
            first = self._totals(sweep, queries, self.output)[:, columns]
            return first, bent - first
        first, finite = self._pushed(sweep, queries, self.output, rows)
        # |finite - first| + 2 |bent - first|
        return first, np.abs(finite - first) + SWITCHING * np.abs(bent - first)

    def of_rows(self, queries: Examples, rows: np.ndarray) -> np.ndarray:
        """Scores (n_queries, n_rows) of some training examples; "finite" replays only these."""
        if self.removal_order != "finite":
            return self.scores(queries)[:, rows]
        return self._pushed(self.sweep, queries, self.output, torch.from_numpy(rows))[1]

    def _summed(self, queries: Examples, output: Any) -> np.ndarray:
        """Scores (n_queries, n_train), over all occurrences of an example."""
        if self.removal_order == "finite":
            rows = torch.arange(self.replay.n_train)
            return self._pushed(self.sweep, queries, output, rows)[1]
        return super()._summed(queries, output)

    def _pushed(self, sweep: Sweep, queries: Examples, output: Any, rows: Tensor) -> NDArray:
        """Derivative and finite scores, (2, n_queries, n_rows), of some training examples."""
        replay, push = self.replay, FiniteRemoval(sweep)
        slots = len(sweep.rule.slots)
        number = replay.model.size * torch.finfo(replay.model.dtype).bits // 8
        room = held_memory(self.max_memory) // (2 * number)
        n_queries = max(1, min(len(queries), room // (replay.n_steps + 4 * (1 + slots))))
        n_queries = self.batch_size or n_queries
        at_once = max(1, room // (6 + 4 * slots))
        found = np.zeros((2, len(queries), len(rows)))
        blocks = list(chunks(len(queries), 1, n_queries))
        for block in progress(blocks, self.name, self.verbose, unit="sweep"):
            gradients = self._gradients(queries.take(block), output)
            both = push(gradients, rows.to(self.replay.model.task.device), at_once)
            found[:, block] = torch.stack(both).double().cpu().numpy()
        return found

    def _jets(self, queries: Examples, rows: Tensor, chunk_size: int) -> Iterator[np.ndarray]:
        """First and second derivatives, each (n_queries, n_rows), of some training examples."""
        outputs = self._outputs(queries, self.output)
        jets, found = Jets(self.replay, self.removal), []
        for chunk in progress(rows.split(chunk_size), "error proxy", self.verbose, unit="chunk"):
            found.append(jets.of_outputs(chunk.to(self.replay.model.task.device), outputs))
        return (torch.cat(parts).double().cpu().numpy().T for parts in zip(*found, strict=True))

    def _own(self, rows: np.ndarray) -> np.ndarray:
        if self.removal_order == "finite":
            own = self.train.take(rows), "neg_loss", torch.as_tensor(rows)
            return np.diagonal(self._pushed(self.sweep, *own)[1])
        return super()._own(rows)


def _first_form(attributor: Any) -> Form:
    """The form of the curvature that was asked for, or that "auto" starts with."""
    if attributor.curvature != "auto":
        return Form(attributor.curvature)
    return FORMS[0] if attributor.mask_size is None else Form("fisher")


def _masks(attributor: Any, replay: Replay) -> list[Mask]:
    """The coordinates that are scored, none if all are."""
    if attributor.mask_size is None:
        return []
    rng = np.random.RandomState(draw_seed(attributor.random_state))
    return draw_masks(replay.model.sizes, attributor.mask_size, attributor.n_masks, rng)


def _at_once(attributor: Any, replay: Replay) -> int:
    """Gradients of the whole model that fit the memory, with what they are made of."""
    model = replay.model
    number = 4 * model.size * torch.finfo(model.dtype).bits // 8
    return max(1, held_memory(attributor.max_memory) // number)
