"""Slow, obvious references: dense float64 gradients, curvatures and scores by autograd."""

import numpy as np
import torch


def parameters(task):
    return list(task.parameters.values())


def flat_gradient(value, task):
    found = torch.autograd.grad(value, parameters(task), retain_graph=True, allow_unused=True)
    parts = [
        torch.zeros_like(p) if g is None else g
        for g, p in zip(found, parameters(task), strict=True)
    ]
    return torch.cat([g.reshape(-1) for g in parts]).detach().double().numpy()


def loss_gradients(task, X, t):
    """Gradient of each example's training loss, one backward pass an example, (n, p)."""
    losses = task.loss(task.forward(X), t)
    return np.stack([flat_gradient(value, task) for value in losses])


def output_gradients(task, X, t, function):
    values = function(task.forward(X), t)
    return np.stack([flat_gradient(value, task) for value in values])


def gauss_newton(task, X, t, weights):
    """Σ_i w_i J_iᵀ H_i J_i with Jacobians and output Hessians by autograd, (p, p)."""
    outputs = task.forward(X)
    p = sum(q.numel() for q in parameters(task))
    total = np.zeros((p, p))
    for i, output in enumerate(outputs):
        jacobian = np.stack([flat_gradient(o, task) for o in output.reshape(-1)])
        hessian = torch.autograd.functional.hessian(
            lambda z, i=i: task.loss(z[None], t[i : i + 1]).sum(), output.detach()
        )
        k = output.numel()
        total += weights[i] * jacobian.T @ hessian.reshape(k, k).double().numpy() @ jacobian
    return total


def scores(query, curvature, train, weights):
    """-<q, C⁻¹ g> w."""
    return -query @ np.linalg.solve(curvature, train.T) * weights


def surrogate_indicator(query, data, curvature_inverse):
    """ξ of each query from matrix powers, no eigenvalues."""
    t = []
    left = query
    for _ in range(3):
        left = left @ curvature_inverse
        t.append(np.einsum("ij,jk,ik->i", left, data, query))
    return t[1] / np.sqrt(t[0] * t[2])
