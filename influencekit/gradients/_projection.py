"""Seeded random projections of gradients that keep inner products in expectation."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.utils import check_random_state
from torch import Tensor

__all__ = ["PROJECTIONS", "Projection", "make_projection"]

#: Kinds of projection that can be asked for by name, besides "auto".
PROJECTIONS = ("rademacher", "gaussian", "two_sided", "factored")


class Projection:
    """Dense Rademacher projection; see :func:`make_projection`."""

    def __init__(self, dim: int, n_parameters: int, seed: int):
        self.dim, self.n_parameters, self.seed = dim, n_parameters, seed

    def __call__(self, features) -> Tensor:
        if self.dim == self.n_parameters:
            return features.materialize()
        rng = np.random.RandomState(self.seed)
        matrix = torch.as_tensor(rng.choice([-1.0, 1.0], (self.n_parameters, self.dim)))
        matrix = (matrix / self.dim**0.5).to(features.device, features.dtype)
        return features.matmul(matrix)


def make_projection(task_or_engine, dim, *, kind="auto", random_state=None) -> Projection:
    """Projection of a task's gradients to ``dim`` numbers."""
    n = getattr(task_or_engine, "task", task_or_engine).n_parameters
    seed = int(check_random_state(random_state).randint(2**31 - 1))
    return Projection(min(dim, n), n, seed)
