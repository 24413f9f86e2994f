"""Slow, plain formulas: what each method should give, for models small enough.

Scores are ``q_i' C^-1 g_j / n`` with q_i the gradient of a test loss, g_j that of a training
loss, and C a curvature of the mean loss with damping.  Nothing of influencekit is used.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, hessian, jacrev, vmap
from torch.nn import functional as F

from benchmarks.problems.tensors import Problem

LIMIT = 6000


def _loss(model, x, y):
    return lambda values: F.cross_entropy(functional_call(model, values, (x,)), y)


def _parameters(model) -> dict[str, Tensor]:
    return {k: v.detach() for k, v in model.named_parameters()}


def gradients(model: nn.Module, X: Tensor, y: Tensor, function=F.cross_entropy) -> Tensor:
    """Gradients (n, p) of a function of (outputs, targets)."""

    def one(values, x, label):
        return function(functional_call(model, values, (x[None],)), label[None])

    parts = vmap(grad(one), in_dims=(None, 0, 0))(_parameters(model), X, y)
    return torch.cat([part.flatten(1) for part in parts.values()], 1)


def margin(outputs: Tensor, targets: Tensor) -> Tensor:
    """Log odds of the target's class."""
    chosen = targets[:, None] == torch.arange(outputs.shape[1])
    rest = outputs.masked_fill(chosen, -torch.inf).logsumexp(1)
    return ((outputs * chosen).sum(1) - rest).sum()


def full_hessian(problem: Problem) -> Tensor:
    """Hessian (p, p) of the mean training loss."""
    model, values = problem.model, _parameters(problem.model)
    sizes, shapes = [v.numel() for v in values.values()], [v.shape for v in values.values()]

    def loss(flat):
        parts = [t.reshape(s) for t, s in zip(flat.split(sizes), shapes, strict=True)]
        named = dict(zip(values, parts, strict=True))
        return _loss(model, problem.X, problem.y)(named)

    return hessian(loss)(torch.cat([v.flatten() for v in values.values()]))


def ggn(problem: Problem) -> Tensor:
    """Gauss-Newton matrix (p, p) of the mean loss, which is the true Fisher matrix here."""
    model, values = problem.model, _parameters(problem.model)
    total = torch.zeros(problem.p, problem.p, dtype=problem.dtype)
    for X in problem.X.split(100):
        jac = vmap(jacrev(lambda v, x: functional_call(model, v, (x[None],))[0]), (None, 0))
        J = torch.cat([part.flatten(2) for part in jac(values, X).values()], 2)
        prob = model(X).detach().softmax(1)
        S = torch.diag_embed(prob) - prob[:, :, None] * prob[:, None, :]
        total += torch.einsum("ncp,ncd,ndq->pq", J, S, J)
    return total / problem.n


def _pair(problem: Problem):
    g = gradients(problem.model, problem.X, problem.y)
    q = gradients(problem.model, problem.X_test, problem.y_test)
    return q, g


def _solve(problem: Problem, curvature: Tensor):
    q, g = _pair(problem)
    eye = torch.eye(len(curvature), dtype=curvature.dtype)
    C = curvature + problem.settings.damping * eye
    return q @ torch.linalg.solve(C, g.T) / problem.n


def graddot(problem: Problem):
    q, g = _pair(problem)
    return q @ g.T / problem.n


def tracin(problem: Problem):
    total, twin = 0, problem.fresh_model()
    for state, weight in problem.checkpoints:
        twin.load_state_dict(state)
        q = gradients(twin, problem.X_test, problem.y_test)
        total = total + weight * q @ gradients(twin, problem.X, problem.y).T
    return total


def explicit(problem: Problem):
    return _solve(problem, full_hessian(problem))


def ggn_explicit(problem: Problem):
    return _solve(problem, ggn(problem))


def fisher(problem: Problem):
    g = gradients(problem.model, problem.X, problem.y)
    return _solve(problem, g.T @ g / problem.n)


def arnoldi(problem: Problem):
    """Exact eigenpairs, the largest in magnitude, nothing for the rest of the space."""
    values, vectors = torch.linalg.eigh(full_hessian(problem))
    top = values.abs().argsort(descending=True)[: problem.settings.rank]
    q, g = _pair(problem)
    V = vectors[:, top]
    return q @ V / (values[top] + problem.settings.damping) @ (g @ V).T / problem.n


def module_columns(problem: Problem) -> list[slice]:
    """Columns of the flat gradient that belong to each linear layer, bias with weight."""
    found, start = [], 0
    for layer in problem.model:
        if isinstance(layer, nn.Linear):
            size = layer.weight.numel() + layer.bias.numel()
            found.append(slice(start, start + size))
            start += size
    return found


def datainf(problem: Problem, blocks: list[slice] | None = None):
    """Mean of inverses in place of the inverse of the mean, layer by layer."""
    damping = problem.settings.damping
    q, g = _pair(problem)
    total = 0
    for columns in blocks or module_columns(problem):
        a, b = q[:, columns], g[:, columns]
        share = 1 / (damping + b.square().sum(1))
        inner = b @ b.T
        total = total + (a @ b.T - (a @ b.T * share) @ inner / problem.n) / damping
    return total / problem.n


def datainf_full(problem: Problem):
    return datainf(problem, [slice(None)])


def _layers(problem: Problem, X: Tensor, y: Tensor):
    """Of each linear layer: inputs with a one appended, and gradients at its outputs."""
    values, h, kept = problem.model, X, []
    for layer in values:
        if isinstance(layer, nn.Linear):
            kept.append([torch.cat([h, torch.ones_like(h[:, :1])], 1).detach()])
            h = layer(h)
            h.retain_grad()
            kept[-1].append(h)
        else:
            h = layer(h)
    F.cross_entropy(h, y, reduction="sum").backward()
    problem.model.zero_grad()
    return [(a, out.grad.detach()) for a, out in kept]


def _expected(problem: Problem, true_fisher: bool):
    """(weights, layers) such that a mean over the weighted passes is the expectation."""
    X, y = problem.X, problem.y
    if not true_fisher:
        return [(torch.ones(len(X), dtype=X.dtype), _layers(problem, X, y))]
    prob = problem.model(X).detach().softmax(1)
    classes = range(prob.shape[1])
    return [(prob[:, c], _layers(problem, X, torch.full_like(y, c))) for c in classes]


def kronecker(problem: Problem, corrected: bool, true_fisher: bool):
    """K-FAC or EK-FAC scores, bias as a last column, expectations exact."""
    passes = _expected(problem, true_fisher)
    train = _layers(problem, problem.X, problem.y)
    test = _layers(problem, problem.X_test, problem.y_test)
    total = 0
    for k, ((a, s), (b, t)) in enumerate(zip(train, test, strict=True)):
        A = sum(((w[:, None] * p[k][0]).T @ p[k][0]) for w, p in passes) / problem.n
        G = sum(((w[:, None] * p[k][1]).T @ p[k][1]) for w, p in passes) / problem.n
        ea, U = torch.linalg.eigh(A)
        eg, V = torch.linalg.eigh(G)
        if corrected:
            parts = [
                (w[:, None] * (p[k][1] @ V).square()).T @ (p[k][0] @ U).square() for w, p in passes
            ]
            values = sum(parts) / problem.n
        else:
            values = eg[:, None] * ea
        g = torch.einsum("no,ni->noi", s @ V, a @ U).flatten(1)
        q = torch.einsum("no,ni->noi", t @ V, b @ U).flatten(1)
        total = total + q / (values.flatten() + problem.settings.damping) @ g.T
    return total / problem.n


def trak(problem: Problem):
    """Without projection: margins' gradients over sqrt(p), sums over rows, times 1 - p_j."""
    scale = problem.p**0.5
    phi = gradients(problem.model, problem.X, problem.y, margin) / scale
    target = gradients(problem.model, problem.X_test, problem.y_test, margin) / scale
    eye = torch.eye(problem.p, dtype=problem.dtype)
    kernel = phi.T @ phi + trak_damping(problem) * eye
    prob = problem.model(problem.X).detach().softmax(1)[torch.arange(problem.n), problem.y]
    return target @ torch.linalg.solve(kernel, phi.T) * (1 - prob)


def trak_damping(problem: Problem, proj_dim: int = 1) -> float:
    """Damping of the mean as TRAK's number: of a sum, of gradients over sqrt(p).

    Times ``proj_dim`` where the projection's entries have variance one.
    """
    return problem.settings.damping * problem.n / problem.p * proj_dim


METHODS = {
    "graddot": graddot,
    "tracin": tracin,
    "explicit": explicit,
    "cg": explicit,
    "lissa": explicit,
    "arnoldi": arnoldi,
    "nystroem": ggn_explicit,
    "nystroem_fisher": fisher,
    "nystroem_hessian": explicit,
    "datainf": datainf,
    "datainf_full": datainf_full,
    "fisher": fisher,
    "ggn": ggn_explicit,
    "kfac": lambda problem: kronecker(problem, corrected=False, true_fisher=True),
    "ekfac": lambda problem: kronecker(problem, corrected=True, true_fisher=True),
    "kfac_true": lambda problem: kronecker(problem, corrected=False, true_fisher=True),
    "ekfac_true": lambda problem: kronecker(problem, corrected=True, true_fisher=True),
    "kfac_empirical": lambda problem: kronecker(problem, corrected=False, true_fisher=False),
    "ekfac_empirical": lambda problem: kronecker(problem, corrected=True, true_fisher=False),
    "trak_exact": trak,
    "trak": trak,
}


def score(method: str, problem: Problem) -> tuple[np.ndarray, dict]:
    """Scores (m, n) of a method, for models of at most LIMIT parameters."""
    if problem.p > LIMIT:
        raise NotImplementedError(f"dense reference: p = {problem.p} > {LIMIT}")
    return METHODS[method](problem).detach().numpy(), {"reference": "dense formula"}
