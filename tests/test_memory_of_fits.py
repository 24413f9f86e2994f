"""A fit keeps nothing of its model once the attributor is gone: measured in a fresh process."""

import os
import platform
import subprocess
import sys

import pytest

#: Thirty fits on new nets, after some that fill the caches of torch and Python; prints by how many
#: nets the memory in use grew.  glibc tells it to the byte: the process's own size wavers by more.
PROGRAM = """
import ctypes, gc, sys, warnings, numpy as np, torch
from torch import nn
from skorch import NeuralNetClassifier
from influencekit import *
from influencekit.curvature import *
from influencekit.training import TrajectoryRecorder

class Usage(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

libc = ctypes.CDLL("libc.so.6")
libc.mallinfo2.restype = Usage
warnings.simplefilter("ignore")
rng = np.random.default_rng(0)
X, y = rng.normal(size=(4, 600)).astype("f"), np.arange(4) % 2

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(600, 100), nn.Linear(100, 2)
    def forward(self, x):
        return self.last(torch.relu(self.first(x)))

def net(**options):
    return NeuralNetClassifier(Net, criterion=nn.CrossEntropyLoss, max_epochs=1, batch_size=2,
                               train_split=None, verbose=0, **options)

def attribute(attributor):
    task = as_task(Net(), loss=nn.CrossEntropyLoss())
    attributor.fit(task, X, y).score(X[:2], y[:2])

def in_use():
    gc.collect()
    usage = libc.mallinfo2()
    return usage.uordblks + usage.hblkhd

def growth(call, n):
    before = in_use()
    for _ in range(n):
        exec(call, dict(globals()))  # its names go with it
    return in_use() - before

size = 4 * sum(p.numel() for p in Net().parameters())
for call in sys.argv[1:]:
    growth(call, 3)
    print(growth(call, 30) / size)
"""

CALLS = {
    "first order": "attribute(GradDot())",
    "checkpoints": "attribute(TracIn(0.1))",
    "layers": "attribute(InfluenceFunction('datainf', damping=0.1))",
    "eigenvalues": "attribute(InfluenceFunction('fisher', damping=0.1))",
    "products": "attribute(InfluenceFunction(Arnoldi(rank=2, random_state=0), damping=1.0))",
    "projection": "attribute(TRAK(projection_dim=4, random_state=0))",
    "further training": "attribute(FurtherTraining(optimizer='sgd', lr=.1, n_steps=1, n_repeats=1,"
    " left_out=[0, 1], random_state=0))",
    "along the run": "trained = net(callbacks=[TrajectoryRecorder()], optimizer=torch.optim.AdamW)"
    ".fit(X, y); AdamWInfluence().fit(trained, X, y).score(X[:2], y[:2])",
    "stacked": "retrain_on_subsets(net(), X, y, X[:2], y[:2], n_subsets=2, random_state=0,"
    " engine='stacked')",
}


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the memory in use is read off glibc")
def test_thirty_fits_grow_by_less_than_two_models():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *CALLS.values()],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"},
    )
    assert done.returncode == 0, done.stderr
    growth = dict(zip(CALLS, map(float, done.stdout.split()), strict=True))
    assert max(growth.values()) < 2, growth
