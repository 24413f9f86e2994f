"""Are the libraries' scores those of the dense formulas?

Every (library, method) on the digits net in float64 against slow, plain formulas: Pearson's
correlation over all scores; the median and smallest correlation of a test row; the median over rows
of the ratio of median absolute scores.
"""

import logging

import numpy as np
import torch

from benchmarks import peers
from benchmarks.harness import Size, Study, timed
from benchmarks.measures import libraries
from benchmarks.peers import dense
from benchmarks.problems.tensors import FOLDER, Settings, load_problem

METHODS = (
    "graddot tracin explicit ggn fisher cg lissa arnoldi nystroem nystroem_fisher nystroem_hessian "
    "datainf kfac ekfac kfac_true ekfac_true ekfac_empirical trak_exact"
)
SMALL = "graddot tracin explicit datainf ekfac_true trak_exact"
# TRAK's kernel is scaled arbitrarily by traker: only its correlation means something.
SCALE_UNKNOWN = ("traker",)


def reference(method, problem):
    """Scores of the formula, made once and saved for the other libraries."""
    about = f"{problem.n}-{problem.m}-{problem.settings.damping}"
    path = FOLDER / f"dense-{method}-{about}.npy"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, dense.score(method, problem)[0])
    return np.load(path)


def agreement(expected, scores):
    """How near scores (m, n) are to a reference; "undefined" counts entries that are."""
    expected, scores = expected.astype(float), np.asarray(scores).astype(float)
    undefined = int((~np.isfinite(scores)).sum())
    if undefined:
        return {"undefined": undefined}
    rows = [np.corrcoef(a, b)[0, 1] for a, b in zip(expected, scores, strict=True)]
    ratio = np.median(np.abs(scores), 1) / np.median(np.abs(expected), 1)
    return {
        "pearson": float(np.corrcoef(expected.ravel(), scores.ravel())[0, 1]),
        "row_median": float(np.median(rows)),
        "row_smallest": float(np.min(rows)),
        "ratio": float(np.median(ratio)),
    }


def row(method, library, n, m, damping):
    logging.disable(logging.WARNING)
    peer, settings = peers.load(library), Settings(damping=damping)
    problem = load_problem("tiny", n=n, m=m, dtype="float64", settings=settings)
    cost, (scores, _) = timed(lambda: peer.METHODS[method](problem))
    found = agreement(reference(method, problem.to(torch.float64)), scores)
    known = library not in SCALE_UNKNOWN
    return {**cost, **found, "scale_known": known, "p": problem.p, "n": n, "m": m}


def tables(rows):
    return {"correlation": libraries.agreement_table(rows)}


STUDY = Study(
    __doc__, row, peers.pairs(METHODS), {"n": 300, "m": 50, "damping": 0.1},
    quick=Size([{"method": ["graddot"], "library": ["influencekit", "traker"]}],
               {"n": 40, "m": 5}),
    small=Size(peers.pairs(SMALL)),
    tables=tables, key="exact/{method}/{library}", fresh=True, limit=120,
    environment=peers.environment, shows_failures=True,
)  # fmt: skip
