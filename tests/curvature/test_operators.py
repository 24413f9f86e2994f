"""Matrix-free products against dense matrices by autograd."""

import numpy as np
import pytest
import torch
from torch import nn

from influencekit import as_task
from influencekit.curvature import CurvatureProblem
from influencekit.curvature._operators import CurvatureOperator
from influencekit.data import make_examples
from influencekit.gradients import GradientEngine, Gradients, loss_cotangent
from tests._shared.nets import tanh_net
from tests.curvature._dense_reference import flat_gradient
from tests.curvature._hessian_reference import D, N, dense_problem, hessian


@pytest.mark.parametrize("batch_size", [None, 7])
@pytest.mark.parametrize("penalty", ["constant", "bias free"])
@pytest.mark.parametrize("matrix", ["hessian", "ggn"])
def test_products_equal_dense(matrix, penalty, batch_size):
    dense = dense_problem(matrix, penalty, weighted=True, batch_size=batch_size)
    vectors = torch.randn(9, len(dense.curvature), dtype=torch.float64)
    found = CurvatureOperator(dense.problem, matrix)(vectors, 0.3)
    expected = vectors.numpy() @ (dense.curvature + 0.3 * np.eye(len(dense.curvature)))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("matrix", ["hessian", "ggn"])
def test_vectors_go_in_parts_when_memory_is_short(matrix):
    dense = dense_problem(matrix)
    vectors = torch.randn(300, len(dense.curvature), dtype=torch.float64)
    operator = CurvatureOperator(dense.problem, matrix)
    dense.problem.engine.workspace = 2**14
    assert operator.sizes(N, 300) < (N, 300)
    np.testing.assert_allclose(operator.data(vectors), vectors.numpy() @ dense.data, atol=1e-12)


def test_batches_of_rows_average_to_the_whole():
    dense = dense_problem("hessian", weighted=True)
    vectors = torch.randn(2, len(dense.curvature), dtype=torch.float64)
    operator = CurvatureOperator(dense.problem, "hessian")
    parts = [operator.data(vectors, torch.tensor([i])) for i in range(N)]
    np.testing.assert_allclose(sum(parts) / N, vectors.numpy() @ dense.data, atol=1e-12)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(D, 3, batch_first=True), nn.Linear(3, 2)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


class Attending(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(D, 2, 6, dropout=0.0, batch_first=True)
        self.head = nn.Linear(D, 2)

    def forward(self, x):
        return self.head(self.layer(x).mean(1))


def convolutional():
    return nn.Sequential(
        nn.Unflatten(1, (1, 6)), nn.Conv2d(1, 2, 2), nn.GELU(), nn.Flatten(), nn.Linear(30, 2)
    )


MODULES = {
    "lstm": (Recurrent, (5, 6, D)),
    "attention": (Attending, (5, 6, D)),
    "convolution": (convolutional, (5, 6, D)),
    "one parameter a unit": (lambda: nn.Sequential(nn.Linear(D, 2), nn.PReLU()), (5, D)),
}


@pytest.mark.parametrize("name", list(MODULES))
def test_hessian_of_other_modules(name):
    make, shape = MODULES[name]
    torch.manual_seed(0)
    task = as_task(make().double(), loss=nn.CrossEntropyLoss())
    X, t = torch.randn(shape, dtype=torch.float64), torch.tensor([0, 1, 1, 0, 1])
    weights = torch.full((5,), 0.2, dtype=torch.float64)
    examples = make_examples(task, X, t)
    p = task.n_parameters
    problem = CurvatureProblem(
        Gradients(GradientEngine(task), examples, loss_cotangent(task)),
        weights,
        torch.zeros(p).double(),
    )
    vectors = torch.randn(3, p, dtype=torch.float64)
    found = CurvatureOperator(problem, "hessian").data(vectors)
    expected = vectors.numpy() @ hessian(task, X, t, weights)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-11)


def cauchy(outputs, targets):
    """Concave where the error is above 1."""
    return torch.log1p((outputs - targets).square()).sum(1)


@pytest.mark.parametrize("loss", [nn.HuberLoss(), cauchy], ids=["huber", "cauchy"])
def test_gauss_newton_of_other_losses(loss):
    """``Σ_i w_i J_iᵀ H_i J_i``, with negative eigenvalues of ``H_i`` cut to 0."""
    torch.manual_seed(0)
    task = as_task(tanh_net(D, 3, 2), loss=loss)
    X, t = torch.randn(7, D, dtype=torch.float64), 2 * torch.randn(7, 2, dtype=torch.float64)
    weights = torch.full((7,), 1 / 7, dtype=torch.float64)
    p, expected = task.n_parameters, 0.0
    for x, y in zip(X, t, strict=True):
        z = task.forward(x[None])
        J = np.stack([flat_gradient(output, task) for output in z[0]])
        H = torch.autograd.functional.hessian(lambda v, y=y: loss(v, y[None]).sum(), z.detach())
        s, v = np.linalg.eigh(H.reshape(2, 2).numpy())
        expected = expected + J.T @ (v * np.maximum(s, 0)) @ v.T @ J / 7
    problem = CurvatureProblem(
        Gradients(GradientEngine(task), make_examples(task, X, t), loss_cotangent(task)),
        weights,
        torch.zeros(p).double(),
    )
    found = CurvatureOperator(problem).data(torch.eye(p, dtype=torch.float64))
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-12)
