"""Which runs of a further training have diverged."""

from __future__ import annotations

from math import ceil, inf, isfinite

import numpy as np
import torch
from torch import Tensor

from influencekit.training.further._step import TrainingRows
from influencekit.training.stack._tasks import Parameters, TaskStack

__all__ = ["Divergence"]

#: Mean losses are compared on this many rows, or a batch if it is larger.
MIN_ROWS = 32
#: A run has diverged if its loss is this many times that of a model that knows nothing.
WORSE = 1000.0


class Divergence:
    """Tells runs that have diverged, also where every number in them is finite.

    A run has diverged if

    - a parameter is NaN or infinite, or the mean loss, computed in the model's own dtype, is; or
    - no digit of the fitted model is left: the largest parameter, times the machine epsilon of
      its dtype, exceeds the largest parameter that the run began with; or
    - its mean loss exceeds 1,000 times both that of the fitted model and that of the same model
      with every parameter zero, which knows nothing.

    Losses are means over rows spread evenly over the training data: as many as a batch holds,
    and 32 or more, so that looking costs a part of a step.  Where the fitted model's own loss is
    not finite, or 0 as it is for the zeros, they tell nothing and are not looked at.

    Parameters
    ----------
    stack : TaskStack
        In eval mode.
    rows : TrainingRows
    batch_size : int
        Rows of a training batch.
    slice_size : int
        Rows that are evaluated at a time.
    """

    def __init__(self, stack: TaskStack, rows: TrainingRows, batch_size: int, slice_size: int):
        self.stack = stack
        n = len(rows.weights)
        some = np.linspace(0, n - 1, min(n, max(batch_size, MIN_ROWS))).round().astype(int)
        parts = np.array_split(some, ceil(len(some) / slice_size))
        self.parts = [rows.take(torch.from_numpy(part)) for part in parts]
        start = {name: p.detach() for name, p in stack.initial(1).items()}
        nothing = {name: torch.zeros_like(p) for name, p in start.items()}
        own, blank = (abs(float(self._losses(p))) for p in (start, nothing))
        largest = max(own, blank) if isfinite(blank) else own
        self.limit = WORSE * largest if 0 < largest < inf else None
        self.size = _largest(start)

    def __call__(self, parameters: Parameters) -> np.ndarray:
        """Which of the runs have diverged, bool (n_runs,)."""
        sizes = _largest(parameters)
        eps = max(torch.finfo(p.dtype).eps for p in parameters.values())
        bad = ~torch.isfinite(sizes) | ((sizes * eps > self.size) & (self.size > 0))
        if self.limit is not None:
            losses = self._losses(parameters)
            bad = bad | ~torch.isfinite(losses) | (losses > self.limit)
        return bad.cpu().numpy()

    def _losses(self, parameters: Parameters) -> Tensor:
        """Mean loss of every run, (n_runs,)."""
        with torch.no_grad():
            parts = []
            for inputs, targets in self.parts:
                outputs = self.stack.outputs(parameters, inputs, shared=True)
                parts.append(self.stack.losses(outputs, targets, shared=True))
        return torch.cat(parts, dim=1).mean(dim=1)


def _largest(parameters: Parameters) -> Tensor:
    """Largest absolute parameter of every run, (n_runs,); NaN where one is."""
    return torch.stack([p.abs().flatten(1).amax(1) for p in parameters.values()]).amax(0)
