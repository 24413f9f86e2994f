"""A further training of many seeds, for a process of its own that may be killed."""

import numpy as np
import torch
from torch import nn

from influencekit import as_task
from tests._shared.attributors import further_training
from tests.training._further_reference import make_data, make_module

torch.set_num_threads(1)
# the first optimizer imports much: once in the fork server rather than in each process
torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)

N_SEEDS = 10


def run(cache_dir, path=None, n_repeats=N_SEEDS, **options):
    """Measure; write the scores to ``path``."""
    X, y = make_data()
    task = as_task(make_module(), loss=nn.CrossEntropyLoss())
    settings = {"epochs": 20, "left_out": 5, "batch_size": 8, "random_state": 0}
    further = further_training(
        optimizer="adam", lr=0.01, n_repeats=n_repeats, cache_dir=cache_dir, **settings | options
    )
    found = further.fit(task, X, y).measure(X[:4], y[:4])
    if path is not None:
        np.savez(path, scores=found.scores, halves=found.halves)
    return found
