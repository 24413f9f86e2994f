"""Random states: seeding that leaves no trace, and one private stream for each model."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from influencekit.utils._random import MAX_SEED

__all__ = ["RandomStream", "draw_seeds", "seeded", "spawn_generators"]

#: torch's and numpy's global generators belong to the process, not to a thread: whoever
#: seeds them and relies on it holds this lock, so that threads take turns.
GLOBAL_STATE_LOCK = threading.RLock()


def spawn_generators(entropy: int, n: int) -> list[np.random.Generator]:
    """Independent generators, one a subset: asking for more leaves the first ones as they were."""
    return [np.random.default_rng(s) for s in np.random.SeedSequence(entropy).spawn(n)]


def draw_seeds(generator: np.random.Generator, n: int) -> np.ndarray:
    """Seeds (n,) that torch, numpy and scikit-learn all take."""
    return generator.integers(0, MAX_SEED, size=n)


@contextmanager
def seeded(seed: int, device: Any = "cpu") -> Iterator[None]:
    """Seed torch, numpy and Python inside the block; restore what was there after it.

    Parameters
    ----------
    seed : int
    device : torch.device or str, default="cpu"
        The device whose generator is seeded beside the CPU's.
    """
    with untouched(device):
        numpy_state, python_state = np.random.get_state(), random.getstate()
        try:
            torch.manual_seed(seed)
            np.random.seed(seed)
            random.seed(seed)
            yield
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)


class RandomStream:
    """The position of one model in its own stream of random numbers.

    Parameters
    ----------
    cpu : Tensor
        State of torch's CPU generator.
    device : Tensor or None
        State of the generator of the model's device; None for the CPU.
    module : module or None
        ``torch.cuda`` or its like, which reads and writes that state.
    """

    def __init__(self, cpu: Tensor, device: Tensor | None = None, module: Any = None):
        self.cpu = cpu
        self.device = device
        self.module = module

    @classmethod
    def capture(cls, device: Any = "cpu") -> RandomStream:
        """Take down where torch's global generators stand."""
        device = torch.device(device)
        if device.type == "cpu":
            return cls(torch.get_rng_state())
        module = torch.get_device_module(device)
        return cls(torch.get_rng_state(), module.get_rng_state(), module)

    def restore(self) -> None:
        """Put torch's global generators where this stream stands."""
        torch.set_rng_state(self.cpu)
        if self.module is not None:
            self.module.set_rng_state(self.device)

    @contextmanager
    def use(self) -> Iterator[None]:
        """Draw from this stream inside the block, through torch's global generators."""
        self.restore()
        yield
        self.advance()

    def advance(self) -> None:
        """Move this stream to where torch's global generators stand."""
        self.cpu = torch.get_rng_state()
        if self.module is not None:
            self.device = self.module.get_rng_state()


@contextmanager
def untouched(device: Any = "cpu") -> Iterator[None]:
    """Keep torch's global generators as they are, whatever the block does to them."""
    with GLOBAL_STATE_LOCK:
        before = RandomStream.capture(device)
        try:
            yield
        finally:
            before.restore()
