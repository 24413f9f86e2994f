"""Reruns in many small chunks, for a process of its own that may be killed."""

import time

import numpy as np
import torch

from influencekit.training import trajectory_leave_one_out
from influencekit.training.leave_one_out._reruns import Reruns
from tests.training._rerun_reference import X, Y, recorded

torch.set_num_threads(1)
# the first optimizer imports much: once in the fork server rather than in each process
torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)

N_CHUNKS = 6


def run(cache_dir, path=None, stop_after=None):
    """Rerun; write the outputs to ``path``; hang in the work after some stored files."""
    task, trajectory = recorded()
    if stop_after is not None:
        plain = Reruns.without

        def slow(self, rows):
            if len(list(cache_dir.glob("*/*.npz"))) >= stop_after:
                time.sleep(60)
            return plain(self, rows)

        Reruns.without = slow
    found = trajectory_leave_one_out(
        task,
        X,
        Y,
        X[:4],
        Y[:4],
        left_out=np.arange(12),
        trajectory=trajectory,
        chunk_size=2,
        cache_dir=cache_dir,
    )
    if path is not None:
        np.savez(path, outputs=found.outputs)
    return found
