"""Methods of captum.

Translations to ``q_i' (C + damping)^-1 g_j / n``:
- its Hessian is that of the SUM of losses: nothing to divide, and ``hessian_reg`` is n times
  the damping of the mean;
- Arnoldi keeps positive Ritz values only and has no term for the rest of the space;
- TracInCP: nothing; ``loss_fn`` must be a sum, and layers linear or convolutions: its
  gradients of single rows leave other layers out.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from captum.influence import TracInCP
from captum.influence._core.arnoldi_influence_function import ArnoldiInfluenceFunction
from captum.influence._core.influence_function import NaiveInfluenceFunction
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.problems.tensors import Problem

PACKAGE = "captum"
BATCH = 250


def default_damping(method: str, n: int) -> float:
    """Damping of the mean curvature that the library takes when none is given."""
    return {"explicit": 1e-6, "arnoldi": 1e-3}[method] / n


def _loader(X, y, batch_size: int = BATCH) -> DataLoader:
    return DataLoader(TensorDataset(X, y), batch_size=batch_size, shuffle=False)


class _Loss(nn.Module):
    """Sum of cross-entropies, of a text its mean."""

    reduction = "sum"  # captum asks for it

    def forward(self, outputs, y):
        total = F.cross_entropy(outputs.flatten(0, -2), y.flatten(), reduction="sum")
        return total * len(y) / y.numel()


def _layers(model: nn.Module) -> list[str] | None:
    """Layers of which captum has the gradients of single rows of a batch; None if it is all."""
    own = {name: m for name, m in model.named_modules() if list(m.parameters(recurse=False))}
    known = [name for name, layer in own.items() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    return None if len(known) == len(own) else known


def _tracin(problem: Problem, checkpoints):
    with tempfile.TemporaryDirectory() as folder:
        weights = {}
        for k, (state, weight) in enumerate(checkpoints):
            path = str(Path(folder) / f"{k}.pt")
            torch.save(state, path)
            weights[path] = weight

        def load(model, path):
            model.load_state_dict(torch.load(path, weights_only=True))
            return weights[path]

        tracin = TracInCP(
            problem.fresh_model(),
            _loader(problem.X, problem.y),
            checkpoints=list(weights),
            checkpoints_load_func=load,
            loss_fn=_Loss(),
            batch_size=None,
            sample_wise_grads_per_batch=True,
            layers=_layers(problem.model),
        )
        scores = tracin.influence((problem.X_test, problem.y_test))
    return scores.detach().numpy()


def graddot(problem: Problem):
    options = {"sample_wise_grads_per_batch": True, "layers": _layers(problem.model)}
    return _tracin(problem, [(problem.model.state_dict(), 1.0)]) / problem.n, options


def tracin(problem: Problem):
    return _tracin(problem, problem.checkpoints), {"sample_wise_grads_per_batch": True}


def _influence(kind, problem: Problem, options: dict):
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.pt")
        torch.save(problem.model.state_dict(), path)

        def load(model, path):
            model.load_state_dict(torch.load(path, weights_only=True))
            return 1.0

        function = kind(
            problem.fresh_model(),
            _loader(problem.X, problem.y),
            checkpoint=path,
            checkpoints_load_func=load,
            loss_fn=nn.CrossEntropyLoss(reduction="sum"),
            batch_size=None,
            sample_wise_grads_per_batch=True,
            **options,
        )
        scores = function.influence(_loader(problem.X_test, problem.y_test))
    return scores.detach().numpy()


def explicit(problem: Problem):
    options = {
        "projection_dim": None,
        "hessian_reg": problem.n * problem.settings.damping,
        "hessian_inverse_tol": 1e-12,
    }
    return _influence(NaiveInfluenceFunction, problem, options), options


def arnoldi(problem: Problem):
    s = problem.settings
    options = {
        "projection_dim": s.rank,
        "arnoldi_dim": s.krylov_dim + 2,
        "arnoldi_tol": 1e-7,
        "hessian_reg": problem.n * s.damping,
        "hessian_inverse_tol": 1e-12,
        "seed": s.seed,
    }
    return _influence(ArnoldiInfluenceFunction, problem, options), options


METHODS = {"graddot": graddot, "tracin": tracin, "explicit": explicit, "arnoldi": arnoldi}
ONLY_TINY = {"explicit"}
