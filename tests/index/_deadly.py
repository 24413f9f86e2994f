"""A net whose forward ends the process that runs it, as long as a file is there."""

import os
import signal

import torch
from torch import nn


class Deadly(nn.Module):
    """Two layers; ``flag`` is the path of the file, ``spared`` a process that goes on."""

    def __init__(self, flag, spared):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))
        self.flag, self.spared = str(flag), spared

    def forward(self, x):
        if os.getpid() != self.spared and len(x) > 2:
            try:
                os.unlink(self.flag)  # of several processes one finds it
            except FileNotFoundError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        return self.layers(x)


def deadly(flag):
    """A task around such a net."""
    from influencekit import as_task

    torch.manual_seed(0)
    return as_task(Deadly(flag, os.getpid()).double(), loss=nn.CrossEntropyLoss())
