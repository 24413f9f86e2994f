"""Methods of pyDVL.

Translations to ``q_i' (C + damping)^-1 g_j / n``:
- divide by n; ``regularization`` is the damping of the mean loss's curvature;
- its "Gauss-Newton" matrix is the mean of g_j g_j', the empirical Fisher matrix;
- LiSSA: regularization inside the product, dampen = 0;
- averages over the loader's batches weigh a batch by the rows that the matrix is applied to, not
  by the batch's rows, and the first one by 1: with a single batch the matrix is divided by the
  number of those rows, which is undone for Nystroem (rank) and DataInf (queries);
- Nystroem of the Hessian, its default, shifts a matrix that is not positive;
- InverseHarmonicMean is DataInf, here by layer;
- EK-FAC takes expectations over classes from one backward pass of sum_c sqrt(p_c) log p_c,
  which squares a sum over classes.

DirectInfluence of the Gauss-Newton matrix is left out: with a single batch it divides by zero,
with several by p times their number less one.
"""

from __future__ import annotations

import torch
from pydvl.influence.torch import (
    ArnoldiInfluence,
    CgInfluence,
    DirectInfluence,
    EkfacInfluence,
    InverseHarmonicMeanInfluence,
    LissaInfluence,
    NystroemSketchInfluence,
)
from pydvl.influence.torch.util import BlockMode, SecondOrderMode
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.problems.tensors import Problem

PACKAGE = "pydvl"
CHUNK = 250
MUST_BE_GIVEN = ("datainf", "datainf_full", "nystroem_fisher", "nystroem_hessian")


def default_damping(method: str, n: int) -> float | None:
    """Damping of the mean curvature when none is given; None where it has to be."""
    return None if method in MUST_BE_GIVEN else 0.0


def _loader(problem: Problem, batch_size: int | None = None) -> DataLoader:
    data = TensorDataset(problem.X, problem.y)
    return DataLoader(data, batch_size=batch_size or problem.n, shuffle=False)


def _scores(problem: Problem, fitted, chunk: int | None = None):
    """Factors of the queries a chunk at a time, then training rows a chunk at a time."""
    rows = []
    for X, y in zip(
        problem.X_test.split(chunk or problem.m),
        problem.y_test.split(chunk or problem.m),
        strict=True,
    ):
        factors = fitted.influence_factors(X, y)
        parts = [
            fitted.influences_from_factors(factors, a, b)
            for a, b in zip(problem.X.split(CHUNK), problem.y.split(CHUNK), strict=True)
        ]
        rows.append(torch.cat(parts, 1))
    return torch.cat(rows).detach().numpy() / problem.n


def explicit(problem: Problem):
    options = {"regularization": problem.settings.damping}
    model = DirectInfluence(problem.fresh_model(), F.cross_entropy, **options)
    return _scores(problem, model.fit(_loader(problem))), options


def cg(problem: Problem):
    s = problem.settings
    options = {"regularization": s.damping, "maxiter": s.cg_steps, "rtol": 1e-7, "atol": 1e-7}
    model = CgInfluence(
        problem.fresh_model(), F.cross_entropy, warn_on_max_iteration=False, **options
    )
    return _scores(problem, model.fit(_loader(problem))), options


def lissa(problem: Problem):
    s = problem.settings
    options = {
        "regularization": s.damping,
        "maxiter": s.lissa_depth,
        "scale": s.lissa_scale,
        "dampen": 0.0,
        "rtol": 1e-12,
    }
    torch.manual_seed(s.seed)
    model = LissaInfluence(
        problem.fresh_model(), F.cross_entropy, warn_on_max_iteration=False, **options
    )
    return _scores(problem, model.fit(_loader(problem, s.lissa_batch))), options


def arnoldi(problem: Problem):
    s = problem.settings
    options = {"regularization": s.damping, "rank": s.rank, "krylov_dimension": s.krylov_dim}
    model = ArnoldiInfluence(problem.fresh_model(), F.cross_entropy, **options)
    return _scores(problem, model.fit(_loader(problem))), options


def _nystroem(problem: Problem, mode: SecondOrderMode, factor: int):
    s = problem.settings
    options = {"regularization": s.damping / factor, "rank": s.rank}
    torch.manual_seed(s.seed)
    model = NystroemSketchInfluence(
        problem.fresh_model(), F.cross_entropy, second_order_mode=mode, **options
    )
    scores = _scores(problem, model.fit(_loader(problem))) / factor
    return scores, {**options, "second_order_mode": mode.value}


def nystroem_fisher(problem: Problem):
    return _nystroem(problem, SecondOrderMode.GAUSS_NEWTON, problem.settings.rank)


def nystroem_hessian(problem: Problem):
    return _nystroem(problem, SecondOrderMode.HESSIAN, 1)


def _harmonic(problem: Problem, blocks: BlockMode):
    options = {"regularization": problem.settings.damping}
    model = InverseHarmonicMeanInfluence(
        problem.fresh_model(), F.cross_entropy, block_structure=blocks, **options
    )
    scores = _scores(problem, model.fit(_loader(problem)))
    return scores * problem.m, {**options, "blocks": blocks.value}


def datainf(problem: Problem):
    return _harmonic(problem, BlockMode.LAYER_WISE)


def datainf_full(problem: Problem):
    return _harmonic(problem, BlockMode.FULL)


def _kronecker(problem: Problem, update_diagonal: bool):
    problem = problem.to(torch.float32)  # the library knows no other here
    options = {
        "hessian_regularization": problem.settings.damping,
        "update_diagonal": update_diagonal,
    }
    model = EkfacInfluence(problem.fresh_model(), **options)
    return _scores(problem, model.fit(_loader(problem, 500))), options


def kfac(problem: Problem):
    return _kronecker(problem, update_diagonal=False)


def ekfac(problem: Problem):
    return _kronecker(problem, update_diagonal=True)


METHODS = {
    "explicit": explicit,
    "cg": cg,
    "lissa": lissa,
    "arnoldi": arnoldi,
    "nystroem_fisher": nystroem_fisher,
    "nystroem_hessian": nystroem_hessian,
    "datainf": datainf,
    "datainf_full": datainf_full,
    "kfac_true": kfac,
    "ekfac_true": ekfac,
}
ONLY_TINY = {"explicit"}
