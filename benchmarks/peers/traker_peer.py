"""TRAK by its authors' library, with BasicProjector: fast_jl needs a GPU.

Translations: (n, m) is transposed.  Its kernel's inverse is divided by its mean absolute entry,
so scores are known up to a positive factor only; ``lambda_reg`` is added to a sum over rows of
gradients over sqrt(p), with entries of the projection of variance one (see ``trak_damping``).
"""

from __future__ import annotations

import logging
import tempfile

import torch
from torch.utils.data import DataLoader, TensorDataset
from trak import TRAKer
from trak.projectors import BasicProjector, NoOpProjector, ProjectionType

from benchmarks.peers.dense import trak_damping
from benchmarks.problems.tensors import Problem

PACKAGE = "traker"
BATCH = 250


def default_damping(method: str, n: int) -> float:
    """Damping of the mean curvature that the library takes when none is given."""
    return 0.0


def _run(problem: Problem, projector, damping: float):
    problem = problem.to(torch.float32)
    with tempfile.TemporaryDirectory() as folder:
        traker = TRAKer(
            model=problem.fresh_model(),
            task="image_classification",
            train_set_size=problem.n,
            save_dir=folder,
            device="cpu",
            projector=projector,
            lambda_reg=damping,
            use_half_precision=False,
            logging_level=logging.ERROR,
        )
        state = problem.model.state_dict()
        traker.load_checkpoint(state, model_id=0)
        for batch in _batches(problem.X, problem.y):
            traker.featurize(batch=batch, num_samples=len(batch[0]))
        traker.finalize_features()
        traker.start_scoring_checkpoint("peer", state, model_id=0, num_targets=problem.m)
        for batch in _batches(problem.X_test, problem.y_test):
            traker.score(batch=batch, num_samples=len(batch[0]))
        scores = torch.tensor(traker.finalize_scores("peer")).T.numpy()
    return scores


def _batches(X, y):
    return DataLoader(TensorDataset(X, y), batch_size=BATCH, shuffle=False)


def trak(problem: Problem):
    s = problem.settings
    options = {"proj_dim": s.proj_dim, "lambda_reg": trak_damping(problem, s.proj_dim)}
    projector = BasicProjector(
        grad_dim=problem.p,
        proj_dim=s.proj_dim,
        seed=s.seed,
        proj_type=ProjectionType.rademacher,
        device=torch.device("cpu"),
        dtype=torch.float32,
    )
    return _run(problem, projector, options["lambda_reg"]), {**options, "projector": "Basic"}


def trak_exact(problem: Problem):
    damping = trak_damping(problem)
    return _run(problem, NoOpProjector(device="cpu"), damping), {
        "lambda_reg": damping,
        "projector": "NoOp",
    }


METHODS = {"trak": trak, "trak_exact": trak_exact}
ONLY_TINY = {"trak_exact"}
