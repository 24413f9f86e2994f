"""A fitted linear model with its rows as arrays: what exact algebra needs to know."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from influencekit.data._examples import Examples
from influencekit.exceptions import ResourceError, UnsupportedModelError
from influencekit.models._task import Task
from influencekit.utils.validation import present

__all__ = ["LinearFit", "check_linear", "read_linear", "row_inputs"]

#: Largest number of coefficients whose Hessian is decomposed.
LARGEST = 6_000
_BATCH = 4096


@dataclass
class LinearFit:
    """Rows, loss and penalty of a linear model ``z = W (x - μ) + b'``, in float64.

    The objective is ``Σ_i w_i loss(z_i, y_i) + ½ Σ_c θ_cᵀ R_c θ_c``, with one vector of
    coefficients ``θ_c`` for each of k outputs, the intercept last.

    Attributes
    ----------
    task : Task
    X : ndarray of shape (n, d)
        Centered features and, with an intercept, a column of ones.
    targets : Tensor of shape (n, ...)
    weights : ndarray of shape (n,)
    penalty : ndarray of shape (k, d, d)
        ``R_c``, for the summed loss.
    ridge : ndarray of shape (d, d)
        What one unit of damping adds to each ``R_c``.
    means : ndarray of shape (p,)
        μ; zeros without an intercept.
    theta : ndarray of shape (k, d)
        The model's own coefficients.
    """

    task: Task
    X: np.ndarray
    targets: Tensor
    weights: np.ndarray
    penalty: np.ndarray
    ridge: np.ndarray
    means: np.ndarray
    theta: np.ndarray

    @property
    def intercept(self) -> bool:
        """Whether the model has an intercept."""
        return self.X.shape[1] > len(self.means)

    @cached_property
    def outputs(self) -> np.ndarray:
        """Outputs (n, k) of the training rows."""
        return self.X @ self.theta.T

    def features(self, X: np.ndarray) -> np.ndarray:
        """Raw features (m, p) as rows like those of ``X``, (m, d)."""
        centered = X - self.means
        return np.c_[centered, np.ones(len(X))] if self.intercept else centered

    def raw(self, theta: np.ndarray) -> np.ndarray:
        """Coefficients (..., d) for features that are not centered: ``b = b' - W μ``."""
        if not self.intercept:
            return theta
        moved = theta.copy()
        moved[..., -1] -= theta[..., :-1] @ self.means
        return moved

    def slopes(self, outputs: np.ndarray) -> np.ndarray:
        """Derivative (n, k) of each row's loss by its outputs."""
        z = torch.from_numpy(outputs).detach().requires_grad_(True)
        with torch.enable_grad():
            total = self.task.loss(z, self.targets).sum()
        return torch.autograd.grad(total, z)[0].numpy()

    def factors(self, outputs: np.ndarray) -> np.ndarray:
        """Factors (n, k, r) of each row's Hessian by its outputs, ``S_i = L_i L_iᵀ``."""
        with torch.no_grad():
            found = self.task.loss.hessian_factor(torch.from_numpy(outputs), self.targets)
        return found.factor.numpy()

    def gradient(self, theta: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Gradient (k, d) of the objective with these weights."""
        pulls = weights[:, None] * self.slopes(self.X @ theta.T)
        # Σ_i w_i g_i x_iᵀ + R θ
        return pulls.T @ self.X + np.einsum("kde,ke->kd", self.penalty, theta)

    def hessian(self, factors: np.ndarray, weights: np.ndarray, damping: float = 0.0) -> np.ndarray:
        """Hessian (k·d, k·d) of the objective with these weights."""
        k, d = self.theta.shape
        matrix = np.zeros((k, d, k, d))
        for a in range(k):
            for b in range(a + 1):
                # Σ_i w_i (S_i)_ab x_i x_iᵀ
                share = weights * np.einsum("ir,ir->i", factors[:, a], factors[:, b])
                matrix[a, :, b] = self.X.T @ (share[:, None] * self.X)
                matrix[b, :, a] = matrix[a, :, b]
            matrix[a, :, a] += self.penalty[a] + damping * self.weights.sum() * self.ridge
        return matrix.reshape(k * d, k * d)


def check_linear(task: Task, argument: str) -> None:
    """Refuse a model whose removals are not a matter of linear algebra.

    Parameters
    ----------
    task : Task
    argument : str
        What asked for it, such as ``"removal_order='newton'"``, for the message.

    Raises
    ------
    UnsupportedModelError
    """
    layers = list(task.module.children())
    linear = len(layers) == 1 and isinstance(layers[0], nn.Linear)
    if task.convex and linear and task.link is None:
        return
    raise UnsupportedModelError(
        f"{argument}: {task.name} is not a linear model with a smooth convex objective, for which "
        f"removal is linear algebra. Accepted are scikit-learn's linear models, alone or as the "
        f"last step of a Pipeline, that as_task reads. For a net, fit LogisticRegression or Ridge "
        f"to its last layer's inputs and score that model: it holds the other layers fixed."
    )


def read_linear(task: Task, train: Examples, argument: str) -> LinearFit:
    """Read a linear model and its rows.

    Parameters
    ----------
    task : Task
    train : Examples
        The rows that it learned from.
    argument : str
        What asked for it, for messages.

    Returns
    -------
    LinearFit
    """
    check_linear(task, argument)
    if task.n_parameters > LARGEST:
        raise ResourceError(
            f"{argument}: {task.name} has {task.n_parameters:,} coefficients; the Hessian of at "
            f"most {LARGEST:,} is decomposed, which diagnostics, intervals and exact removals "
            f"need. Use removal_order='first', or fewer features."
        )
    layer: Any = next(task.module.children())
    targets = present(train.targets, "training targets").cpu()
    if targets.is_floating_point():
        targets = targets.double()
    weights = task.example_weights(targets, train.weights)
    shares = np.ones(len(train)) if weights is None else weights.cpu().double().numpy()
    features = row_inputs(train)
    means = features.mean(0) if layer.bias is not None else np.zeros(features.shape[1])
    theta, X = layer.weight.detach().cpu().double().numpy(), features - means
    if layer.bias is not None:
        # b' = b + W μ
        theta = np.c_[theta, layer.bias.detach().cpu().double().numpy() + theta @ means]
        X = np.c_[X, np.ones(len(X))]
    total = float(shares.sum())
    strengths = total * task.penalty_vector(total, len(train)).cpu().numpy()
    intercept = layer.bias is not None
    ridge = _uncentered(np.ones((1, X.shape[1])), means, intercept)[0]
    penalty = _uncentered(_by_output(strengths, len(theta), intercept), means, intercept)
    return LinearFit(task, X, targets, shares, penalty, ridge, means, theta)


def row_inputs(examples: Examples) -> np.ndarray:
    """Features (n, p) of examples as the model takes them, float64."""
    parts = [batch.inputs.detach().cpu() for batch in examples.batches(_BATCH)]
    dense = [(part.to_dense() if part.layout != torch.strided else part).double() for part in parts]
    return torch.cat(dense).numpy()


def _by_output(strengths: np.ndarray, k: int, intercept: bool) -> np.ndarray:
    """Penalties in the order of the task's parameters as (k, d), the intercept last."""
    if not intercept:
        return strengths.reshape(k, -1)
    return np.c_[strengths[:-k].reshape(k, -1), strengths[-k:]]


def _uncentered(diagonals: np.ndarray, means: np.ndarray, intercept: bool) -> np.ndarray:
    """``Tᵀ diag(r) T`` (k, d, d) of penalties r on raw coefficients, ``θ = T θ'``."""
    change = np.eye(diagonals.shape[1])
    if intercept:
        change[-1, :-1] = -means
    return change.T @ (diagonals[:, :, None] * change)
