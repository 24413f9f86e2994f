"""A retraining in many small chunks, for a process of its own that may be killed."""

import time
import warnings

import torch

from influencekit.training import retrain_on_subsets
from influencekit.training._cache import OutputCache
from influencekit.training.subsets import _stacked
from tests.training._training_nets import Dropped, make_data, make_net

torch.set_num_threads(1)
# the first optimizer imports much: once in the fork server rather than in each process
torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)

N_CHUNKS = 20
#: Models in a chunk.
MODELS = {"stacked": 2, "joblib": 1}


def run_until_killed(cache_dir, engine, most):
    """Retrain, and wait once ``most`` chunks are written: a slow parent still meets it alive."""
    store = OutputCache.store

    def store_or_wait(cache, chunk_key, outputs, more=None):
        if len(list(cache.folder.glob("[!u]*.npz"))) >= most:
            time.sleep(600)
        store(cache, chunk_key, outputs, more)

    OutputCache.store = store_or_wait
    run(cache_dir, engine)


def run(cache_dir, engine, path=None):
    """Retrain; write the result to ``path``."""
    _stacked.MAX_MODELS = MODELS["stacked"]
    X, y = make_data()
    n_subsets = N_CHUNKS * MODELS[engine]
    net = make_net(Dropped, max_epochs=12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        truth = retrain_on_subsets(
            net,
            X,
            y,
            X[:7],
            y[:7],
            n_subsets=n_subsets,
            engine=engine,
            cache_dir=cache_dir,
            random_state=4,
        )
    if path is not None:
        truth.save(path)
    return truth
