"""Weights of a module before a few steps of its training, spread evenly over the run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
    """Steps ``⌊(k + ½) n_steps / n⌋``, k = 0 … n - 1, of a run of so many steps.

    Examples
    --------
    >>> even_steps(80, 8)
    [5, 15, 25, 35, 45, 55, 65, 75]
    """
    return sorted({(2 * k + 1) * n_steps // (2 * n) for k in range(n)})


def nearest_steps(steps: Iterable[int], wanted: Iterable[int]) -> list[int]:
    """The step nearest to each one that is wanted, none of them twice; in ascending order.

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

    Where the length is unknown, up to ``4 n`` states are held, and thinned as the run grows:
    those chosen at the end are less than a quarter of the spacing from the steps wanted.

    Parameters
    ----------
    n : int

    Attributes
    ----------
    n_steps : int
        Steps so far.
    """

    def __init__(self, n: int):
        self.n, self.n_steps = n, 0
        self._states: dict[int, State] = {}
        self._aims: list[int] | None = None

    def expect(self, n_more: int | None) -> None:
        """Say how many steps are to come; None where that is unknown."""
        self._aims = None if n_more is None else even_steps(self.n_steps + n_more, self.n)

    def before_step(self, module: nn.Module) -> None:
        """Keep the weights if they are wanted, and count the step."""
        if self._is_wanted():
            self._states[self.n_steps] = copied_state(module)
            if len(self._states) > 4 * self.n:
                self._take(even_steps(self.n_steps + 1, 2 * self.n))
        self.n_steps += 1

    def chosen(self) -> dict[int, State]:
        """States by step, ascending, of the run as long as it is now."""
        return {s: self._states[s] for s in self._nearest(even_steps(self.n_steps, self.n))}

    def finish(self) -> dict[int, State]:
        """What is chosen, and nothing else is held any more."""
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
    """What :func:`record_checkpoints` gives.

    Attributes
    ----------
    checkpoints_ : dict of int to dict
        State dict of the module by step: the weights before it.  After the block.
    n_steps_ : int
        Steps that the optimizer took in the block.
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
        Any whose ``step`` moves the module.
    n : int, default=8
        Checkpoints to keep: those before the steps nearest to ``(k + ½) / n`` of the run.
    n_steps : int, default=None
        Steps that the loop will take.  None: unknown, so that up to ``4 n`` states are held in
        the meantime and thinned as the run grows.

    Yields
    ------
    CheckpointRecorder
        Its ``checkpoints_`` are there after the block, for :class:`~influencekit.RunAverage`.

    Raises
    ------
    ValueError
        If ``n`` is no positive integer, or the optimizer holds no parameter of the module.

    Notes
    -----
    Memory: one copy of parameters and buffers on the CPU for each state that is held.
    Training itself is as it would be without the recorder.

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
    """Refuse an optimizer whose steps leave the module where it is."""
    moved = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if moved.isdisjoint(map(id, module.parameters())):
        raise ValueError(
            f"optimizer: {type(optimizer).__name__} holds no parameter of {type(module).__name__}, "
            "so that all its checkpoints would be the same. Accepted is the optimizer that trains "
            "it: build it from module.parameters(), of this very module."
        )
