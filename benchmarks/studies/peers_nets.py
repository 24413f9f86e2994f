"""How good and how fast are the libraries' scores of an MLP, a CNN and a transformer?

The linear datamodeling score and the CPU seconds of the same call, on digits, at each library's own
damping and at the best one of a grid.  A cell has every method of a library.  A method, ours too,
has some CPU seconds for its dampings; after two, those that it had no time to begin are not tried.
"""

import logging
import time
from dataclasses import replace

import numpy as np

from benchmarks import peers
from benchmarks.harness import Size, Study, timed
from benchmarks.measures import libraries
from benchmarks.problems import small_nets

METHODS = (
    "graddot trak trak_two_sided datainf ekfac ekfac_true ekfac_empirical arnoldi ggn explicit"
)
NETS = ["mlp", "cnn", "transformer"]
#: bergson's collector knows linear layers of rows; the other libraries have three nets.
LIBRARIES = [name for name in peers.LIBRARIES if name != "bergson"]


def row(net, library, n, m, seed, n_subsets, n_repeats, dampings, most_seconds, methods):
    logging.disable(logging.WARNING)
    problem, masks, outputs = small_nets.load(net, n, m, seed, n_subsets, n_repeats)
    right = problem.model(problem.X_test).argmax(1) == problem.y_test
    peer = peers.load(library)

    def at(method, damping):
        if damping is None:
            return {"status": "no default"}
        changed = replace(problem, settings=replace(problem.settings, damping=damping))
        try:
            cost, found = timed(lambda: np.asarray(peer.METHODS[method](changed)[0], float))
        except Exception as error:
            return {"status": f"{type(error).__name__}: {str(error)[:80]}"}
        undefined = int((~np.isfinite(found)).sum())
        if undefined:
            return {"status": f"{undefined} undefined scores", **cost}
        lds = outputs.score(found @ masks.T.astype(float))
        return {"status": "ok", "lds": lds.mean, "standard_error": lds.standard_error, **cost}

    def method_row(method):
        tried = [0.1] if method == "graddot" else [peer.default_damping(method, n), *dampings]
        began, found = time.process_time(), []
        for k, damping in enumerate(tried):
            left = k < 2 or time.process_time() - began < most_seconds
            what = at(method, damping) if left else {"status": "not tried"}
            found.append({"damping": damping, "default": k == 0, **what})
        return {"method": method, "dampings": found}

    had = [method for method in methods.split() if method in peers.METHODS[library].split()]
    at(had[0], dampings[0])  # pays for what torch and the library load once
    about = {"p": problem.p, "n": n, "m": m, "subsets": n_subsets, "repeats": n_repeats,
             "ceiling": outputs.noise_ceiling, "accuracy": right.float().mean().item()}  # fmt: skip
    rows = [method_row(name) for name in had]
    return {**about, "version": peers.version_of(library), "methods": rows}


def tables(rows):
    found = {net: libraries.lds_and_seconds([r for r in rows if r["net"] == net])
             for net in NETS if any(r["net"] == net for r in rows)}  # fmt: skip
    return {"nets": libraries.best_of_nets(rows), **found}


STUDY = Study(
    __doc__, row, [{"net": NETS, "library": LIBRARIES}],
    {"n": 1000, "m": 300, "seed": 0, "n_subsets": 50, "n_repeats": 2,
     "dampings": [0.01, 0.1, 0.001], "most_seconds": 20, "methods": METHODS},
    quick=Size([{"net": ["cnn"], "library": ["influencekit", "captum"]}],
               {"n": 60, "m": 5, "n_subsets": 4, "n_repeats": 2, "methods": "graddot"}),
    tables=tables, key="nets/{net}/{library}", fresh=True, limit=1500,
    environment=peers.environment, shows_failures=True,
)  # fmt: skip
