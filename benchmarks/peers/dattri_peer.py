"""Methods of dattri.

Translations to ``q_i' (C + damping)^-1 g_j / n``:
- every influence function: transpose (n, m) -> (m, n) and divide by n;
- explicit, CG, Arnoldi: ``regularization`` is the damping; the loader of the full data must
  have a single batch, because scores of several are added up (each with its own inverse);
- LiSSA: its damping times its scaling is the damping of the mean curvature;
- TracIn: nothing but the transpose; projection "identity", or it would project to 512;
- TRAK: ``regularization`` is added to a sum over rows of gradients over sqrt(p): see
  ``trak_damping``; projections preserve norms.

Where it differs from the formula (measured by ``compare.py``, explained in README.md): EK-FAC of
layers with biases.  Its default projector settings are one dictionary that every attributor
writes into, so all of them are given each time.
"""

from __future__ import annotations

import warnings
from functools import wraps

import torch
from dattri.algorithm.influence_function import (
    IFAttributorArnoldi,
    IFAttributorCG,
    IFAttributorDataInf,
    IFAttributorEKFAC,
    IFAttributorExplicit,
    IFAttributorLiSSA,
)
from dattri.algorithm.tracin import TracInAttributor
from dattri.algorithm.trak import TRAKAttributor
from dattri.task import AttributionTask
from torch.func import functional_call
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.peers.dense import margin, trak_damping
from benchmarks.problems.tensors import Problem

PACKAGE = "dattri"
ROWS_OF_GRADIENTS = 2**28  # numbers in one batch of training gradients


def default_damping(method: str, n: int) -> float:
    """Damping of the mean curvature that the library takes when none is given."""
    return 0.0


def _task(problem: Problem, function=F.cross_entropy, states=None) -> AttributionTask:
    model = problem.fresh_model()

    def loss(params, data):
        x, y = data
        return function(functional_call(model, params, (x,)), y.long())

    return AttributionTask(loss, model, states or problem.model.state_dict())


def _trak_task(problem: Problem) -> AttributionTask:
    """TRAK maps single rows without a batch axis."""
    model = problem.fresh_model()

    def value(params, data):
        x, y = data
        return margin(functional_call(model, params, (x[None],)), y[None])

    return AttributionTask(value, model, problem.model.state_dict())


def _row_task(problem: Problem, states) -> AttributionTask:
    model = problem.fresh_model()

    def loss(params, data):
        x, y = data
        return F.cross_entropy(functional_call(model, params, (x[None],)), y[None])

    return AttributionTask(loss, model, states)


def _loader(X, y, batch_size: int) -> DataLoader:
    return DataLoader(TensorDataset(X, y), batch_size=batch_size, shuffle=False)


def _train(problem: Problem, batch_size: int | None = None) -> DataLoader:
    """One batch where it fits: each batch of training rows repeats all work on the tests."""
    fits = max(1, ROWS_OF_GRADIENTS // problem.p)
    return _loader(problem.X, problem.y, batch_size or min(problem.n, fits))


def _test(problem: Problem, batch_size: int) -> DataLoader:
    return _loader(problem.X_test, problem.y_test, min(batch_size, problem.m))


def _whole(problem: Problem) -> DataLoader:
    return _loader(problem.X, problem.y, problem.n)


def _influence(problem: Problem, attributor, whole: DataLoader, test_batch: int):
    attributor.cache(whole)
    scores = attributor.attribute(_train(problem), _test(problem, test_batch))
    return scores.detach().T.numpy() / problem.n


def single(method):
    """Run in float32: the library makes tensors of that type inside."""
    return wraps(method)(lambda problem: method(problem.to(torch.float32)))


def explicit(problem: Problem):
    options = {"regularization": problem.settings.damping}
    attributor = IFAttributorExplicit(_task(problem), **options)
    return _influence(problem, attributor, _whole(problem), problem.m), options


def cg(problem: Problem):
    s = problem.settings
    options = {"regularization": s.damping, "max_iter": s.cg_steps}
    attributor = IFAttributorCG(_task(problem), **options)
    return _influence(problem, attributor, _whole(problem), 32), options


@single
def lissa(problem: Problem):
    s = problem.settings
    options = {
        "batch_size": s.lissa_batch,
        "num_repeat": 1,
        "recursion_depth": s.lissa_depth,
        "damping": s.damping / s.lissa_scale,
        "scaling": s.lissa_scale,
    }
    torch.manual_seed(s.seed)
    attributor = IFAttributorLiSSA(_task(problem), **options)
    return _influence(problem, attributor, _whole(problem), 64), options


@single
def arnoldi(problem: Problem):
    s = problem.settings
    options = {
        "regularization": s.damping,
        "proj_dim": s.rank,
        "max_iter": s.krylov_dim + 1,
        "seed": s.seed,
    }
    attributor = IFAttributorArnoldi(_task(problem), **options)
    return _influence(problem, attributor, _whole(problem), 250), options


@single
def datainf(problem: Problem):
    options = {"regularization": problem.settings.damping}
    attributor = IFAttributorDataInf(_task(problem), **options)
    return _influence(problem, attributor, _train(problem), 16), options


def ekfac_empirical(problem: Problem):
    options = {"damping": problem.settings.damping}
    attributor = IFAttributorEKFAC(_task(problem), **options)
    whole = _loader(problem.X, problem.y, 500)
    return _influence(problem, attributor, whole, 250), options


def _tracin(problem: Problem, states, weights):
    attributor = TracInAttributor(
        _row_task(problem, states),
        weight_list=torch.tensor(weights),
        normalized_grad=False,
        projector_kwargs={"proj_type": "identity"},
    )
    scores = attributor.attribute(_train(problem), _test(problem, 250))
    return scores.T.numpy()


def graddot(problem: Problem):
    options = {"proj_type": "identity", "weights": [1.0]}
    return _tracin(problem, problem.model.state_dict(), [1.0]) / problem.n, options


def tracin(problem: Problem):
    states, weights = map(list, zip(*problem.checkpoints, strict=True))
    return _tracin(problem, states, weights), {"proj_type": "identity", "weights": weights}


def _trak(problem: Problem, projector: dict, damping: float):
    model = problem.fresh_model()

    def probability(params, data):
        x, y = data
        output = functional_call(model, params, (x[None],))
        return torch.exp(-F.cross_entropy(output, y[None]))

    projector = {"proj_max_batch_size": 32, "device": "cpu", **projector}
    options = {"regularization": damping, "projector_kwargs": projector}
    attributor = TRAKAttributor(_trak_task(problem), probability, **options)
    attributor.cache(_train(problem, 500))
    return attributor.attribute(_test(problem, 250)).detach().T.numpy(), options


def trak(problem: Problem):
    s = problem.settings
    projector = {"proj_dim": s.proj_dim, "proj_type": "rademacher", "proj_seed": s.seed}
    return _trak(problem, projector, trak_damping(problem))


def trak_exact(problem: Problem):
    projector = {"proj_dim": problem.p, "proj_type": "identity"}
    return _trak(problem, projector, trak_damping(problem))


METHODS = {
    "graddot": graddot,
    "tracin": tracin,
    "explicit": explicit,
    "cg": cg,
    "lissa": lissa,
    "arnoldi": arnoldi,
    "datainf": datainf,
    "ekfac_empirical": ekfac_empirical,
    "trak": trak,
    "trak_exact": trak_exact,
}
ONLY_TINY = {"explicit", "trak_exact"}
warnings.filterwarnings("ignore", message=".*full training data loader was NOT cached.*")
