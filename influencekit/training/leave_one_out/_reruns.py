"""A recorded run repeated without some rows, many at a time, and kept in a cache."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from influencekit.training._cache import OutputCache
from influencekit.training._fingerprint import fingerprint
from influencekit.training._randomness import RandomStream, untouched
from influencekit.training.stack._tasks import Evaluation, Parameters, TaskStack
from influencekit.training.trajectory._replay import Replay, State, StepBatch
from influencekit.utils._long_work import progress
from influencekit.utils._parallel import shared_out
from influencekit.utils.validation import present

__all__ = ["EVALUATION_ROWS", "Reruns", "Tables"]

#: Number of runs with different rounding.
N_SHAKEN = 4
#: Number of test examples at once.
EVALUATION_ROWS = 256


class Reruns:
    """Trains stacks of models like a recorded run, each without some rows.

    Initial weights, batches, learning rates, clipping and dropout noise are those of the run.

    Parameters
    ----------
    replay : Replay
        Replay of the run; its dtype is that of the reruns.
    removal : {"renormalize", "fixed"}
    together : bool, default=True
        False runs the models one after the other.
    """

    def __init__(self, replay: Replay, removal: str, together: bool = True):
        self.replay = replay
        self.renormalize = removal == "renormalize" and replay.trajectory.reduction == "mean"
        self.stack = TaskStack(replay.model.task, together)
        self.stack.module.to(replay.model.dtype)
        self.stack.train_mode()

    def without(self, rows: Tensor) -> Parameters:
        """Parameters at the end of runs that leave out one row each.

        Parameters
        ----------
        rows : Tensor of shape (n_runs,)
            Positions among the training examples; -1 leaves nothing out.

        Returns
        -------
        dict of str to Tensor of shape (n_runs, ...)
        """
        left_out = rows[:, None]
        return self._train(len(rows), lambda batch: batch != left_out.to(batch.device))

    def keeping(self, masks: Tensor) -> Parameters:
        """Parameters at the end of runs that keep some rows each.

        Parameters
        ----------
        masks : bool Tensor of shape (n_runs, n_train)

        Returns
        -------
        dict of str to Tensor of shape (n_runs, ...)
        """
        return self._train(len(masks), lambda batch: masks.to(batch.device)[:, batch])

    def shaken(self, n_runs: int) -> Parameters:
        """Parameters at the end of full runs with different rounding after each step.

        Each parameter is moved up or down by its last digit, at random.
        """
        generator = torch.Generator().manual_seed(0)
        return self._train(n_runs, lambda batch: batch[None] >= 0, generator)

    def _train(
        self, n_runs: int, keeps: Callable, shake: torch.Generator | None = None
    ) -> Parameters:
        """``keeps(rows of a batch)`` returns which of them each run keeps, (n_runs, n_rows)."""
        replay = self.replay
        state = self._start(n_runs)
        with untouched(state.theta.device):
            for step in range(replay.n_steps):
                gradient = self._gradient(state.theta, replay.batch(step), keeps)
                state = replay.advance(state, step, gradient)
                if shake is not None:
                    state = state._replace(theta=_shake(state.theta, shake))
        return self._named(state.theta)

    def _start(self, n_runs: int) -> State:
        """The state before the first step, once for each run."""
        start = self.replay.snapshot(0)
        slots = {name: slot.expand(n_runs, -1) for name, slot in start.slots.items()}
        return State(start.theta.expand(n_runs, -1).clone(), slots, start.n_steps)

    def _gradient(self, theta: Tensor, batch: StepBatch, keeps: Callable) -> Tensor:
        """Gradients (n_runs, p) of the step's loss over the rows that each run keeps."""
        theta = theta.detach().requires_grad_(True)
        stream = None
        if batch.random_state is not None:
            stream = RandomStream(batch.random_state)
        outputs = self.stack.outputs(self._named(theta), batch.inputs, True, stream)
        losses = self.stack.losses(outputs, batch.targets, True)
        shares = batch.shares * keeps(batch.rows.to(theta.device))
        if self.renormalize:
            total = shares.sum(1, keepdim=True)
            shares = shares / torch.where(total > 0, total, torch.ones_like(total))
        return torch.autograd.grad((shares * losses).sum(), theta)[0]

    def _named(self, theta: Tensor) -> Parameters:
        model = self.replay.model
        parts = zip(model.names, theta.split(model.sizes, dim=1), model.shapes, strict=True)
        return {name: part.reshape(len(theta), *shape) for name, part, shape in parts}


def _shake(theta: Tensor, generator: torch.Generator) -> Tensor:
    signs = torch.randint(0, 2, theta.shape, generator=generator).to(theta) * 2 - 1
    return theta * (1 + torch.finfo(theta.dtype).eps * signs)


class Tables:
    """Outputs of reruns, trained or read from the cache.

    Parameters
    ----------
    reruns : Reruns
    evaluation : Evaluation
    cache : OutputCache or None
    on_nan : {"raise", "keep"}
    """

    def __init__(
        self, reruns: Reruns, evaluation: Evaluation, cache: OutputCache | None, on_nan: str
    ):
        self.reruns, self.evaluation, self.cache = reruns, evaluation, cache
        self.on_nan = on_nan

    def full(self) -> NDArray:
        """Outputs of the reference, followed by those of the reference with other rounding."""

        def train() -> NDArray:
            reference = self.evaluation(self.reruns.without(torch.tensor([-1])))
            shaken = self.evaluation(self.reruns.shaken(N_SHAKEN))
            return np.concatenate([reference, shaken])

        names = ["with all rows", *["with all rows, rounded otherwise"] * N_SHAKEN]
        return self._found("full", names, train)

    def without_each(self, chunks: list[NDArray], verbose: int) -> list[NDArray]:
        """Outputs (len(rows), n_test) of the runs without each of the rows, for each chunk."""
        keys = [fingerprint(rows) for rows in chunks]
        names = [[f"without row {row}" for row in rows] for rows in chunks]
        known = [self._known(key, len(own)) for key, own in zip(keys, names, strict=True)]
        missing = [c for c, found in enumerate(known) if found is None]
        parts = {"reruns": self.reruns, "evaluation": self.evaluation}
        with progress(None, "reruns", verbose, total=len(chunks), unit="chunk") as bar:
            bar.update(len(chunks) - len(missing))
            for k, outputs in shared_out(_without, [chunks[c] for c in missing], None, **parts):
                c = missing[k]
                known[c] = self._kept(keys[c], names[c], outputs)
                bar.update(1)
        return [present(found, "outputs of reruns") for found in known]

    def keeping(self, masks: NDArray, first: int) -> NDArray:
        """Outputs (len(masks), n_test) of the runs with the rows of each mask."""
        runs = torch.as_tensor(masks)
        names = [f"mask {first + i}" for i in range(len(masks))]
        return self._found(
            fingerprint(masks), names, lambda: self.evaluation(self.reruns.keeping(runs))
        )

    def _found(self, key: str, names: list[str], train: Callable[[], NDArray]) -> NDArray:
        outputs = self._known(key, len(names))
        return self._kept(key, names, train()) if outputs is None else outputs

    def _known(self, key: str, n_runs: int) -> NDArray | None:
        """Outputs of the cache, if they are there and of use."""
        shape = n_runs, self.evaluation.n_queries
        outputs = None if self.cache is None else self.cache.load(key, shape)
        if outputs is None or (self.on_nan == "raise" and not np.isfinite(outputs).all()):
            return None
        return outputs

    def _kept(self, key: str, names: list[str], outputs: NDArray) -> NDArray:
        if self.on_nan == "raise":
            _refuse_diverged(outputs, names)
        outputs = np.where(np.isfinite(outputs), outputs, np.nan)
        if self.cache is not None:
            self.cache.store(key, outputs)
        return outputs


def _without(rows: NDArray, reruns: Reruns, evaluation: Evaluation) -> NDArray:
    """Outputs of the runs without each of the rows."""
    return evaluation(reruns.without(torch.as_tensor(rows)))


def _refuse_diverged(outputs: NDArray, names: list[str]) -> None:
    """Refuse reruns whose outputs are not finite."""
    bad = np.flatnonzero((~np.isfinite(outputs)).any(axis=1))
    if len(bad):
        found = ", ".join(names[i] for i in bad[:10]) + (", ..." if len(bad) > 10 else "")
        raise ValueError(
            f"model: {len(bad)} of {len(outputs)} reruns gave outputs that are NaN or infinite: "
            f"{found}. The run is close to diverging, or the explained output is not finite "
            f"there. Train with a smaller learning rate, leave those rows out of left_out=, or "
            f"use on_nan='keep', which keeps such outputs as NaN."
        )
