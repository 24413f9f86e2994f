"""Dense Hessian of the mean training loss by plain autograd, and a small problem to try it on."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from influencekit import as_task
from influencekit.curvature import CurvatureProblem
from influencekit.data import make_examples
from influencekit.gradients import GradientEngine, Gradients, loss_cotangent, output_cotangent
from influencekit.utils._torch import simple_kernels
from tests.curvature._dense_reference import gauss_newton, loss_gradients, output_gradients

N, M, D = 25, 6, 4


def hessian(task, X, t, weights):
    """∇² Σ_i w_i loss_i, (p, p)."""
    shapes = {name: p.shape for name, p in task.parameters.items()}
    sizes = [shape.numel() for shape in shapes.values()]

    def objective(flat):
        parts = zip(shapes, flat.split(sizes), strict=True)
        values = {name: part.view(shapes[name]) for name, part in parts}
        outputs = torch.func.functional_call(task.module, values, (X,))
        return (task.loss(outputs, t) * torch.as_tensor(weights)).sum()

    flat = torch.cat([p.detach().reshape(-1) for p in task.parameters.values()])
    with simple_kernels():  # fused attention has no second derivative
        return torch.autograd.functional.hessian(objective, flat).numpy()


@dataclass
class Dense:
    """A problem with its dense curvature, gradients and queries."""

    problem: CurvatureProblem
    queries: object
    curvature: np.ndarray
    data: np.ndarray
    train: np.ndarray
    query: np.ndarray

    def products(self, damping):
        """``<q_i, (A + λI)⁻¹ g_j>``."""
        shifted = self.curvature + damping * np.eye(len(self.curvature))
        return self.query @ np.linalg.solve(shifted, self.train.T)


def margin(outputs, targets):
    return outputs.gather(1, targets[:, None])[:, 0] * 2.0


def penalty_vector(task, kind):
    p = task.n_parameters
    if kind == "constant":
        return torch.full((p,), 0.2, dtype=torch.float64)
    penalty = torch.zeros(p, dtype=torch.float64)
    if kind == "bias free":
        penalty[: p - 3] = 0.1
    return penalty


def dense_problem(matrix="ggn", penalty="none", weighted=False, seed=0, depth=2, **engine):
    """A multilayer perceptron, its curvature by autograd and what goes into a factorization."""
    generator = torch.Generator().manual_seed(seed)
    layers = [nn.Linear(D, 5), nn.Tanh(), nn.Linear(5, 3)] if depth == 2 else [nn.Linear(D, 3)]
    net = nn.Sequential(*layers).double()
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=p.dtype))
    X = torch.randn(N + M, D, generator=generator, dtype=torch.float64)
    t = torch.randint(3, (N + M,), generator=generator)
    task = as_task(net, loss=nn.CrossEntropyLoss())
    weights = np.random.RandomState(0).uniform(0.5, 2, N) if weighted else np.ones(N)
    weights = weights / weights.sum()
    train, queries = make_examples(task, X[:N], t[:N]), make_examples(task, X[N:], t[N:])
    R = penalty_vector(task, penalty)
    engine = GradientEngine(task, **engine)
    problem = CurvatureProblem(
        Gradients(engine, train, loss_cotangent(task)), torch.as_tensor(weights), R
    )
    data = {"hessian": hessian, "ggn": gauss_newton}[matrix](task, X[:N], t[:N], weights)
    return Dense(
        problem,
        Gradients(engine, queries, output_cotangent(margin)),
        data + np.diag(R.numpy()),
        data,
        loss_gradients(task, X[:N], t[:N]),
        output_gradients(task, X[N:], t[N:], margin),
    )
