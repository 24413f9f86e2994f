"""How well do the libraries' scores predict retraining, at their own and at other dampings?"""

import logging
from dataclasses import replace

import numpy as np

from benchmarks import peers
from benchmarks.harness import Size, Study, timed
from benchmarks.measures import libraries
from benchmarks.measures.truths import truth_of_digits
from benchmarks.problems import tensors

METHODS = (
    "graddot explicit ggn fisher lissa arnoldi nystroem nystroem_fisher nystroem_hessian datainf "
    "kfac ekfac ekfac_true ekfac_empirical trak trak_factored trak_two_sided"
)
SMALL = "graddot ggn datainf ekfac ekfac_true trak trak_two_sided"


def row(method, library, n, m, seed, n_subsets, n_repeats, dampings):
    logging.disable(logging.WARNING)
    masks, prepared = truth_of_digits(n, m, seed, n_subsets, n_repeats)
    about = {"n": n, "m": m, "subsets": n_subsets, "repeats": n_repeats}
    if method == "truth":
        return {**about, "ceiling": prepared.noise_ceiling}
    peer = peers.load(library)
    problem = tensors.load_problem("tiny", n=n, m=m, settings=tensors.Settings(seed=seed))
    damped = method not in ("graddot", "tracin")
    tried = [peer.default_damping(method, n), *dampings] if damped else [None]

    def at(damping):
        if damping is None and damped:
            return {"status": "no default"}
        settings = (
            problem.settings if damping is None else replace(problem.settings, damping=damping)
        )
        try:
            scores = np.asarray(peer.METHODS[method](replace(problem, settings=settings))[0], float)
        except Exception as error:
            return {"status": f"{type(error).__name__}: {str(error)[:80]}"}
        undefined = int((~np.isfinite(scores)).sum())
        if undefined:
            return {"status": f"{undefined} undefined scores"}
        found = prepared.score(scores @ masks.T.astype(float))
        return {"status": "ok", "lds": found.mean, "standard_error": found.standard_error}

    cost, found = timed(lambda: [
        {"damping": damping, "default": k == 0, **at(damping)} for k, damping in enumerate(tried)
    ])  # fmt: skip
    return {**cost, "dampings": found, "p": problem.p, **about}


def tables(rows):
    return {"LDS": libraries.lds_table(rows)}


def key(cell):
    return "lds/truth" if cell["method"] == "truth" else f"lds/{cell['method']}/{cell['library']}"


TRUTH = {"method": ["truth"], "library": [peers.OURS]}
STUDY = Study(
    __doc__, row, [TRUTH, *peers.pairs(METHODS)],
    {"n": 1000, "m": 100, "seed": 0, "n_subsets": 100, "n_repeats": 3,
     "dampings": [0.001, 0.01, 0.1, 1.0]},
    quick=Size([TRUTH, {"method": ["graddot"], "library": ["influencekit", "dattri"]}],
               {"n": 60, "m": 5, "n_subsets": 4, "n_repeats": 2, "dampings": [0.1]}),
    small=Size([TRUTH, *peers.pairs(SMALL)],
               {"n_subsets": 50, "n_repeats": 2, "dampings": [0.001, 0.01, 0.1]}),
    tables=tables, key=key, fresh=True, limit=120, environment=peers.environment,
    shows_failures=True,
)  # fmt: skip
