"""Random states: seeding without side effects, and one private stream for each model."""

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

#: torch's and numpy's global generators belong to the process, not to a thread: hold this lock to
#: seed and use them, so that only one thread does so at a time.
GLOBAL_STATE_LOCK = threading.RLock()


def spawn_generators(entropy: int, n: int) -> list[np.random.Generator]:
    """Independent generators, one for each subset; more subsets do not change the first ones."""
    return [np.random.default_rng(s) for s in np.random.SeedSequence(entropy).spawn(n)]


def draw_seeds(generator: np.random.Generator, n: int) -> np.ndarray:
    """Seeds (n,) that torch, numpy and scikit-learn all accept."""
    return generator.integers(0, MAX_SEED, size=n)


@contextmanager
def seeded(seed: int, device: Any = "cpu") -> Iterator[None]:
    """Seed torch, numpy and Python inside the block, and restore their states afterwards.

    Parameters
    ----------
    seed : int
    device : torch.device or str, default="cpu"
        The device whose generator is seeded in addition to the CPU's.
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
        ``torch.cuda`` or a similar module, which reads and writes that state.
    """

    def __init__(self, cpu: Tensor, device: Tensor | None = None, module: Any = None):
        self.cpu = cpu
        self.device = device
        self.module = module

    @classmethod
    def capture(cls, device: Any = "cpu") -> RandomStream:
        """Save the states of torch's global generators."""
        device = torch.device(device)
        if device.type == "cpu":
            return cls(torch.get_rng_state())
        module = torch.get_device_module(device)
        return cls(torch.get_rng_state(), module.get_rng_state(), module)

    def restore(self) -> None:
        """Set torch's global generators to the state of this stream."""
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
        """Set this stream to the state of torch's global generators."""
        self.cpu = torch.get_rng_state()
        if self.module is not None:
            self.device = self.module.get_rng_state()


@contextmanager
def untouched(device: Any = "cpu") -> Iterator[None]:
    """Restore torch's global generators after the block."""
    with GLOBAL_STATE_LOCK:
        before = RandomStream.capture(device)
        try:
            yield
        finally:
            before.restore()
