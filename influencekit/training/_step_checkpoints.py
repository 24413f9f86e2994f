"""Weights of a module before a few steps of its training, evenly spaced over the run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from numbers import Integral

import torch
from torch import nn
from torch.optim import Optimizer

__all__ = [
    "CheckpointRecorder",
    "State",
    "StepCheckpoints",
    "check_n",
    "copied_state",
    "even_steps",
    "nearest_steps",
    "record_checkpoints",
]

State = dict[str, torch.Tensor]


def even_steps(n_steps: int, n: int) -> list[int]:
    """Steps ``⌊(k + ½) n_steps / n⌋``, k = 0 … n - 1, of a run of n_steps steps.

    Examples
    --------
    >>> even_steps(80, 8)
    [5, 15, 25, 35, 45, 55, 65, 75]
    """
    return sorted({(2 * k + 1) * n_steps // (2 * n) for k in range(n)})


def nearest_steps(steps: Iterable[int], wanted: Iterable[int]) -> list[int]:
    """The steps nearest to the requested ones, without repetition, in ascending order.

    Examples
    --------
    >>> nearest_steps([0, 10, 20, 30], [4, 6, 29])
    [0, 10, 30]
    """
    left, found = sorted(steps), []
    for step in wanted:
        if left:
            found.append(min(left, key=lambda known: abs(known - step)))
            left.remove(found[-1])
    return sorted(found)


def copied_state(module: nn.Module) -> State:
    """State dict of a module, copied to the CPU."""
    module = getattr(module, "_orig_mod", module)
    return {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}


def check_n(n: object) -> None:
    """Refuse anything but a positive number of checkpoints.

    Raises
    ------
    ValueError
    """
    if isinstance(n, bool) or not isinstance(n, Integral) or n < 1:
        raise ValueError(f"n: got {n!r}; accepted is an integer of 1 or more.")


class StepCheckpoints:
    """States before steps near ``(k + ½) / n`` of a run, of known or unknown length.

    If the length is unknown, up to ``4 n`` states are held, and thinned as the run grows. Those
    chosen at the end are less than a quarter of the spacing away from the requested steps.

    Parameters
    ----------
    n : int
    copy : callable, default=copied_state
        ``copy(module)``: the state to keep.

    Attributes
    ----------
    n_steps : int
        Number of steps so far.
    """

    def __init__(self, n: int, copy: Callable[[nn.Module], State] = copied_state):
        self.n, self.n_steps, self.copy = n, 0, copy
        self._states: dict[int, State] = {}
        self._aims: list[int] | None = None

    def expect(self, n_more: int | None) -> None:
        """Set the total number of steps; None if unknown."""
        self._aims = None if n_more is None else even_steps(self.n_steps + n_more, self.n)

    def before_step(self, module: nn.Module) -> None:
        """Keep the weights if needed, and count the step."""
        if self._is_wanted():
            self._states[self.n_steps] = self.copy(module)
            if len(self._states) > 4 * self.n:
                self._take(even_steps(self.n_steps + 1, 2 * self.n))
        self.n_steps += 1

    def chosen(self) -> dict[int, State]:
        """States by step, ascending, for the current length of the run."""
        return {s: self._states[s] for s in self._nearest(even_steps(self.n_steps, self.n))}

    def finish(self) -> dict[int, State]:
        """The chosen states; all others are dropped."""
        self._states = self.chosen()
        return dict(self._states)

    def _is_wanted(self) -> bool:
        if self._aims is not None:
            return self.n_steps in self._aims
        return self.n_steps - max(self._states, default=-self.n_steps - 1) >= max(
            1, self.n_steps // (4 * self.n)
        )

    def _nearest(self, wanted: list[int]) -> list[int]:
        return nearest_steps(self._states, wanted)

    def _take(self, wanted: list[int]) -> None:
        self._states = {step: self._states[step] for step in self._nearest(wanted)}


class CheckpointRecorder:
    """Result of :func:`record_checkpoints`.

    Attributes
    ----------
    checkpoints_ : dict of int to dict
        State dict of the module by step, with the weights before that step. Available after the
        block.
    n_steps_ : int
        Number of steps that the optimizer took in the block.
    """

    checkpoints_: dict[int, State]
    n_steps_: int


@contextmanager
def record_checkpoints(
    module: nn.Module, optimizer: Optimizer, n: int = 8, *, n_steps: int | None = None
) -> Iterator[CheckpointRecorder]:
    """Keep the weights of a plain torch training loop before a few of its steps.

    Parameters
    ----------
    module : torch.nn.Module
    optimizer : torch.optim.Optimizer
        Any optimizer whose ``step`` changes the module.
    n : int, default=8
        Number of checkpoints to keep: those before the steps nearest to ``(k + ½) / n`` of the run.
    n_steps : int, default=None
        Number of steps that the loop will take. If None (unknown), up to ``4 n`` states are held
        meanwhile and thinned as the run grows.

    Yields
    ------
    CheckpointRecorder
        Its ``checkpoints_`` are available after the block, for :class:`~influencekit.RunAverage`.

    Raises
    ------
    ValueError
        If ``n`` is not a positive integer, or the optimizer does not have parameters of the module.

    Notes
    -----
    Memory: one copy of parameters and buffers on the CPU for each state that is held.
    The recorder does not change the training.

    Examples
    --------
    >>> import torch
    >>> from influencekit.training import record_checkpoints
    >>> X, module = torch.ones(6, 2), torch.nn.Linear(2, 1)
    >>> optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    >>> with record_checkpoints(module, optimizer, n=2) as recorder:
    ...     for _ in range(20):
    ...         optimizer.zero_grad()
    ...         module(X).square().mean().backward()
    ...         _ = optimizer.step()
    >>> list(recorder.checkpoints_)
    [5, 15]
    """
    check_n(n)
    _check_moves(optimizer, module)
    recorder, kept = CheckpointRecorder(), StepCheckpoints(n)
    kept.expect(n_steps)
    hook = optimizer.register_step_pre_hook(lambda *_: kept.before_step(module))
    try:
        yield recorder
    finally:
        hook.remove()
        recorder.checkpoints_, recorder.n_steps_ = kept.finish(), kept.n_steps


def _check_moves(optimizer: Optimizer, module: nn.Module) -> None:
    """Refuse an optimizer whose steps do not change the module."""
    moved = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if moved.isdisjoint(map(id, module.parameters())):
        raise ValueError(
            f"optimizer: {type(optimizer).__name__} does not have parameters of "
            f"{type(module).__name__}, so all checkpoints would be the same. Accepted is the "
            f"optimizer that trains it: build it from module.parameters() of the same module."
        )
