"""How long do influencekit and other libraries take for the same work, and how much memory?

The same saved model, rows and settings for each (library, method, size), fitted and scored once in
a process of its own: seconds without imports, reading and training; memory is the peak above what
was held before.  A library that fails on a cell is shown with its reason.
"""

import logging
import resource

import numpy as np
import torch

from benchmarks import peers
from benchmarks.harness import Size, Study, timed
from benchmarks.measures import libraries
from benchmarks.problems.tensors import Settings, load_problem

METHODS = (
    "graddot tracin trak trak_factored trak_two_sided datainf kfac ekfac ekfac_true "
    "ekfac_empirical cg lissa arnoldi nystroem nystroem_fisher nystroem_hessian fisher"
)
SMALL = "graddot tracin trak trak_two_sided datainf kfac ekfac ekfac_true ekfac_empirical arnoldi"
LARGEST = 6000  # parameters of what forms a p x p matrix


def warm_up():
    """What torch loads at first use counts for no library."""
    from benchmarks.peers.dense import gradients
    from benchmarks.problems.nets import stack_of_layers

    X, y = torch.randn(8, 4), torch.arange(8) % 3
    g = gradients(stack_of_layers([4, 5, 3]), X, y)
    torch.linalg.eigh(g.T @ g)


def row(size, method, library, n, m, damping, dtype, memory_gb):
    logging.disable(logging.WARNING)
    peer = peers.load(library)
    problem = load_problem(size, n=n, m=m, dtype=dtype, settings=Settings(damping=damping))
    if method in peer.ONLY_TINY and problem.p > LARGEST:
        raise NotImplementedError(f"p x p matrix of p = {problem.p}")
    if memory_gb:
        limit = int(memory_gb * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    warm_up()
    cost, (scores, options) = timed(lambda: peer.METHODS[method](problem))
    undefined = int((~np.isfinite(np.asarray(scores))).sum())
    return {**cost, **problem.describe(), "options": options, "undefined": undefined,
            "version": peers.version_of(library), "threads": torch.get_num_threads()}  # fmt: skip


def tables(rows):
    compared = {size: libraries.comparisons(rows, size) for size in ("small", "large", "tiny")}
    compared = {size: found for size, found in compared.items() if found}
    tables = {size: libraries.side_by_side(found) for size, found in compared.items()}
    return {**tables, "summary": libraries.summary(compared),
            "without a result": libraries.without_result(rows)}  # fmt: skip


def grid(sizes, methods):
    return [{"size": sizes, **pair} for pair in peers.pairs(methods)]


STUDY = Study(
    __doc__, row, [g for size in ("small", "large") for g in grid([size], METHODS)],
    {"n": None, "m": None, "damping": 0.1, "dtype": "float32", "memory_gb": 16},
    quick=Size([{"size": ["tiny"], "method": ["graddot"], "library": ["influencekit", "captum"]}],
               {"n": 40, "m": 5, "memory_gb": 0}),
    small=Size(grid(["small"], SMALL), {"n": 1000, "m": 100}),
    tables=tables, key="peers/{size}/{method}/{library}", fresh=True, limit=60,
    environment=peers.environment, shows_failures=True,
)  # fmt: skip
