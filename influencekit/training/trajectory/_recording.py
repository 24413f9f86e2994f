"""Listens to an optimizer while a model is trained, and keeps what replay needs."""

from __future__ import annotations

import os
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from influencekit.exceptions import TrajectoryError
from influencekit.models._optimizers import optimizers_that
from influencekit.training._refused_layers import (
    batch_norms,
    refuse_batch_statistics,
    refuse_embeddings,
)
from influencekit.training.trajectory._replay import drops_out
from influencekit.training.trajectory._trajectory import FolderSnapshots, Snapshot, Trajectory
from influencekit.training.trajectory.rules._elementwise import ELEMENTWISE
from influencekit.utils._files import check_writable, writing

__all__ = ["SLOTS", "Recording", "numbers_of"]

#: Folder of a recording that goes on, inside that of the last complete one.
_UNFINISHED = "unfinished"
#: Steps after which a module that drew no random numbers is taken for one that draws none.
_TRIED_STEPS = 20

SLOTS = (
    *("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", "exp_inf", "square_avg"),
    *("grad_avg", "acc_delta", "sum"),
)

WEIGHTS_ALONE = "Record weights alone, for RunAverage: TrainerCheckpoints or KeepCheckpoints."

#: Numbers of parameter groups that steps read, beside betas.
NUMBERS = (
    *("lr", "weight_decay", "momentum", "dampening", "eps", "alpha", "lr_decay", "rho"),
    "momentum_decay",
)


class Recording:
    """One run that is being recorded.

    Parameters
    ----------
    module : torch.nn.Module
    optimizer : torch.optim.Optimizer
        One of torch's that recordings know, over the module's trainable parameters.
    every : int
        Steps between snapshots.
    folder : path-like or None
        Where snapshots are written; None keeps them in memory.
    n_rows : int
    reduction : {"mean", "sum"}
    """

    def __init__(
        self,
        module: nn.Module,
        optimizer: Optimizer,
        every: int,
        folder: str | os.PathLike | None,
        n_rows: int,
        reduction: str,
    ):
        self.module, self.optimizer, self.every = module, optimizer, every
        self.folder, self.n_rows, self.reduction = folder, n_rows, reduction
        refuse_embeddings(module)
        self.names = _names(module, optimizer)
        self.switches = _switches(optimizer)
        self._norms_of_batches = [part for _, part in batch_norms(module)]
        if self._norms_of_batches:
            self.switches["frozen_statistics"] = True
        self._snapshots: MutableMapping[int, Snapshot] | FolderSnapshots = {}
        if folder is not None:
            with _recorded_in(folder):
                check_writable(folder, "folder")
                self._snapshots = FolderSnapshots(Path(folder) / _UNFINISHED)
                _clear(self._snapshots.folder)
        self._batches: list[np.ndarray] = []
        self._norms: list[float] = []
        self._options: list[dict[str, list[float]]] = []
        #: Whether forward passes draw random numbers; None is not known yet.
        self._draws: bool | None = drops_out(module) or None
        self._states: list[Tensor] = []
        self._rows: list[np.ndarray] = []
        self._max_norm = np.nan
        #: Whether a model divided its losses by the numbers that it was given.
        self.divides = False
        self._items: list[float | None] = []
        self._widths: list[dict[str, int]] = []
        self._means: list[np.ndarray] = []
        self._hook = optimizer.register_step_pre_hook(self._before_step)

    @property
    def n_steps(self) -> int:
        """Steps so far."""
        return len(self._batches)

    def announce(
        self, rows: Any, max_norm: float | None = None, means: np.ndarray | None = None
    ) -> None:
        """Say which rows the next step learns from, before the forward pass.

        Several calls before one step are one batch, of a Trainer several as ``means`` has them.
        """
        rows = np.asarray(rows, dtype=np.int64).reshape(-1)
        if len(rows) == 0 or rows.min() < 0 or rows.max() >= self.n_rows:
            found = f"{rows.min()} to {rows.max()}" if len(rows) else "none"
            raise TrajectoryError(
                f"rows: got {found}; accepted are one or more rows from 0 to {self.n_rows - 1}."
            )
        if self._draws and self._rows:
            raise TrajectoryError(
                "rows: several forward passes before one step of a module that drops out "
                "cannot be replayed; accepted is one batch a step, or no dropout."
            )
        if self._rows:
            self._draws, self._states = False, []
        elif self._draws is not False:
            self._states.append(torch.get_rng_state())
        self._rows.append(rows)
        if means is not None:
            self._means.append(means)
        self._max_norm = np.nan if max_norm is None else float(max_norm)

    def saw(self, n_items: float | None, widths: dict[str, int]) -> None:
        """Take down a forward pass: the number its loss may be divided by, and padded lengths."""
        if len(self._items) == len(self._batches):  # the first one of a step
            self._items.append(n_items)
            self._widths.append(widths)

    def _before_step(self, *_: Any) -> None:
        if not self._rows:
            raise TrajectoryError(
                f"trajectory: step {len(self._batches)} of the optimizer came without rows. Call "
                "rows(indices) of the recorder before the forward pass of each step."
            )
        if self._draws is None:
            self._look_for_draws()
        if any(part.training for part in self._norms_of_batches):
            refuse_batch_statistics(self.module)
        if len(self._batches) % self.every == 0:
            self._keep()
        self._batches.append(np.concatenate(self._rows))
        self._norms.append(self._max_norm)
        self._options.append(numbers_of(self.optimizer))
        self._rows = []

    def _look_for_draws(self) -> None:
        """``F.dropout`` is seen by the random numbers that a step has used."""
        if not torch.equal(self._states[-1], torch.get_rng_state()):
            self._draws = True
        elif len(self._batches) >= _TRIED_STEPS:
            self._draws, self._states = False, []

    def _keep(self) -> None:
        with _recorded_in(self.folder):
            self._snapshots[len(self._batches)] = _snapshot(self.optimizer, self.names)

    def _forward_passes(self) -> dict[str, Any]:
        """What a Trainer's forward passes say of the losses, and of the padding."""
        found: dict[str, Any] = {}
        counted = len(self._items) == len(self._batches) and None not in self._items
        if counted and self.divides:
            found["items"] = np.array(self._items, dtype=float)
        elif any(means.max() for means in self._means):
            found["means"] = tuple(self._means)
            self.switches["means_added"] = counted
        one_batch = not any(means.max() for means in self._means)
        if self._widths and one_batch and len(self._widths) == len(self._batches):
            names = set(self._widths[0]).intersection(*self._widths)
            found["widths"] = {name: np.array([w[name] for w in self._widths]) for name in names}
        return found

    def stop(self) -> None:
        """Stop listening."""
        self._hook.remove()

    def finish(self) -> Trajectory:
        """The recorded run.

        Raises
        ------
        TrajectoryError
            If there was no step.
        """
        self.stop()
        if not self._batches:
            raise TrajectoryError("trajectory: the optimizer took no step, so nothing is recorded.")
        self._keep()
        if self.folder is not None:
            with _recorded_in(self.folder):
                self._snapshots = _moved(self._snapshots, Path(self.folder))
        trajectory = Trajectory(
            optimizer=type(self.optimizer).__name__,
            groups=tuple(
                tuple(self.names[id(p)] for p in group["params"] if id(p) in self.names)
                for group in self.optimizer.param_groups
            ),
            options={
                name: np.array([step[name] for step in self._options]) for name in self._options[0]
            },
            switches=self.switches,
            batches=tuple(self._batches),
            max_norm=np.array(self._norms),
            snapshots=self._snapshots,
            n_rows=self.n_rows,
            reduction=self.reduction,
            random_states=tuple(self._states) if self._draws else None,
            **self._forward_passes(),
        )
        if self.folder is not None:
            with _recorded_in(self.folder):
                trajectory.save(self.folder)
        return trajectory


def _clear(folder: Path) -> None:
    """Take a recording out of a folder."""
    for old in [*folder.glob("step_*.npz"), *folder.glob("trajectory.*")]:
        old.unlink(missing_ok=True)  # another process may clear it too


def _moved(snapshots: Any, folder: Path) -> FolderSnapshots:
    """A complete recording in the place of an earlier one."""
    _clear(folder)
    for path in snapshots.folder.glob("step_*.npz"):
        path.replace(folder / path.name)
    with suppress(OSError):  # not empty: another process records there
        snapshots.folder.rmdir()
    return FolderSnapshots(folder)


@contextmanager
def _recorded_in(folder: str | os.PathLike | None) -> Iterator[None]:
    """Say of the file system's errors what they are errors of."""
    try:
        with writing(folder or "", "folder"):
            yield
    except OSError as error:
        raise TrajectoryError(error.strerror or str(error)) from error


def _names(module: nn.Module, optimizer: Optimizer) -> dict[int, str]:
    """Name of each trained parameter by identity."""
    module = getattr(module, "_orig_mod", module)
    trained = {n: p for n, p in module.named_parameters() if p.requires_grad}
    half = [n for n, p in trained.items() if p.dtype not in (torch.float32, torch.float64)]
    if half:
        raise TrajectoryError(
            f"optimizer: the parameters {half[:5]} are in {trained[half[0]].dtype}, whose steps "
            "round away what one row changes; accepted are float32 and float64 (bf16=True of a "
            f"Trainer keeps weights in float32). {WEIGHTS_ALONE}"
        )
    names = {id(p): n for n, p in trained.items()}
    held = {id(p) for group in optimizer.param_groups for p in group["params"] if p.requires_grad}
    unknown = [n for i, n in names.items() if i not in held]
    if unknown:
        raise TrajectoryError(
            f"optimizer: it does not have the trainable parameters {unknown[:5]}. Freeze them "
            "(requires_grad=False), or give them to the optimizer."
        )
    if held - set(names):
        raise TrajectoryError(
            "optimizer: it has parameters that are not trainable parameters of the module (a "
            "learnable criterion?). Accepted are the module's own."
        )
    return names


def _switches(optimizer: Optimizer) -> dict[str, bool]:
    """What an optimizer does, where it is not a number."""
    known = optimizers_that("recorded")
    if type(optimizer) not in known.values():
        *some, last = known
        raise TrajectoryError(
            f"optimizer: got {type(optimizer).__name__}; accepted are {', '.join(some)} and "
            f"{last} of torch.optim, whose steps can be differentiated coordinate by coordinate. "
            f"{WEIGHTS_ALONE}"
        )
    groups = optimizer.param_groups
    if any(group.get("maximize") for group in groups):
        raise TrajectoryError("optimizer: maximize=True is not supported; minimize the negative.")

    def one(name: str, values: list) -> bool:
        if len(set(values)) > 1:
            raise TrajectoryError(
                f"optimizer: {name} differs between parameter groups; accepted is one value for "
                "all. Learning rates, decay, momentum and betas may differ."
            )
        return values[0]

    if isinstance(optimizer, SGD):
        return {
            "momentum": one("momentum != 0", [g["momentum"] != 0 for g in groups]),
            "nesterov": one("nesterov", [bool(g["nesterov"]) for g in groups]),
        }
    if (kind := ELEMENTWISE.get(type(optimizer).__name__)) is not None:
        for name in kind.numbers:
            one(name, [numbers[name] for numbers in map(_numbers, groups)])
        return {name: one(name, [bool(g.get(name)) for g in groups]) for name in kind.switch_names}
    decoupled = isinstance(optimizer, AdamW)
    return {
        "amsgrad": one("amsgrad", [bool(g["amsgrad"]) for g in groups]),
        "decoupled": one(
            "decoupled_weight_decay",
            [bool(g.get("decoupled_weight_decay", decoupled)) for g in groups],
        ),
    }


def numbers_of(optimizer: Optimizer) -> dict[str, list[float]]:
    """Numbers of each parameter group as they stand."""
    found = [_numbers(group) for group in optimizer.param_groups]
    return {name: [numbers[name] for numbers in found] for name in found[0]}


def _numbers(group: dict[str, Any]) -> dict[str, float]:
    """Numbers of a parameter group that steps read."""
    found = {name: float(group[name]) for name in NUMBERS if name in group}
    for name, value in zip(("beta1", "beta2"), group.get("betas", ()), strict=False):
        found[name] = float(value)
    return found


def _snapshot(optimizer: Optimizer, names: dict[int, str]) -> Snapshot:
    """Copies of parameters and state."""
    tensors: dict[str, dict[str, Tensor]] = {"theta": {}}
    counts = set()
    for group in optimizer.param_groups:
        for p in filter(lambda one: id(one) in names, group["params"]):  # without frozen ones
            name, state = names[id(p)], optimizer.state.get(p, {})
            tensors["theta"][name] = p.detach().clone()
            for slot in SLOTS:
                if isinstance(state.get(slot), Tensor):
                    tensors.setdefault(slot, {})[name] = state[slot].detach().clone()
            has_buffer = isinstance(state.get("momentum_buffer"), Tensor)
            counts.add(int(state.get("step", 1 if has_buffer else 0)))
    if len(counts) > 1:
        raise TrajectoryError(
            f"optimizer: its parameters have taken different numbers of steps, {sorted(counts)}: "
            "some had no gradient in some steps. Freeze parameters that are not trained, and "
            "add no groups later."
        )
    return Snapshot(tensors, counts.pop())
