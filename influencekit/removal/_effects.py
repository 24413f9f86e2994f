"""What removals do to the explained outputs of test examples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from influencekit.data._examples import Examples
from influencekit.models._outputs import predicted_targets, resolve_output
from influencekit.removal._linear_fit import row_inputs
from influencekit.removal._whitened import Whitened
from influencekit.utils._long_work import chunks

__all__ = ["LinearQueries", "read_queries"]

#: Outputs that are held at once.
_BLOCK = 2**23


@dataclass
class LinearQueries:
    """Test examples of a linear model, and the output that is explained.

    Attributes
    ----------
    rows : ndarray of shape (m, k, q)
        ``P`` of the examples, by which a step ``v`` moves the outputs by ``P v``.
    outputs : Tensor of shape (m, k)
    targets : Tensor of shape (m, ...) or None
    function : callable
        ``f(outputs, targets) -> (m,)``.
    """

    rows: np.ndarray
    outputs: Tensor
    targets: Any
    function: Callable[[Tensor, Any], Tensor]

    def linearized(self, steps: np.ndarray) -> np.ndarray:
        """``-∇f · v``, (m, n_steps): the predicted ``f - f without``."""
        z = self.outputs.clone().requires_grad_(True)
        with torch.enable_grad():
            total = self.function(z, self.targets).sum()
        slopes = torch.autograd.grad(total, z)[0].numpy()
        return -np.einsum("mk,mkq->mq", slopes, self.rows) @ steps.T

    def evaluated(self, steps: np.ndarray) -> np.ndarray:
        """``f(z) - f(z + P v)``, (m, n_steps): the function at the outputs after each step."""
        m, k = self.rows.shape[:2]
        found = np.empty((m, len(steps)))
        before = self._values(self.outputs, self.targets)[:, None]
        for some in chunks(len(steps), m * k, _BLOCK):
            moved = self.moved(steps[some])
            repeated = (
                None if self.targets is None else self.targets.repeat_interleave(moved.shape[1], 0)
            )
            after = self._values(moved.flatten(0, 1), repeated)
            found[:, some] = before - after.reshape(m, -1)
        return found

    def moved(self, steps: np.ndarray) -> Tensor:
        """Outputs after each step, (m, n_steps, k)."""
        m, k, q = self.rows.shape
        change = (self.rows.reshape(m * k, q) @ steps.T).reshape(m, k, len(steps))
        return self.outputs[:, None] + torch.from_numpy(change.transpose(0, 2, 1).copy())

    def _values(self, outputs: Tensor, targets: Any) -> np.ndarray:
        with torch.no_grad():
            return self.function(outputs, targets).double().numpy()


def read_queries(white: Whitened, queries: Examples, output: Any) -> LinearQueries:
    """Read test examples and the function of their outputs that is explained.

    Parameters
    ----------
    white : Whitened
    queries : Examples
    output : str or callable
        Explained output, as an attributor takes it.

    Returns
    -------
    LinearQueries
    """
    fit = white.fit
    X = fit.features(row_inputs(queries))
    outputs, targets = torch.from_numpy(X @ fit.theta.T), queries.targets
    function = resolve_output(fit.task, output, targets is not None, finite=True)
    if targets is None:  # the model's own prediction stays the target
        targets = predicted_targets(fit.task, outputs)
    return LinearQueries(white.rows(X), outputs, targets.cpu(), function)
