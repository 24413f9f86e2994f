"""Growth of a process over what it had before a fit, beside ``max_memory``."""

from __future__ import annotations

import gc
import warnings

import torch
from torch import Tensor, nn

from influencekit import TRAK, GradCos, GradDot, InfluenceFunction, as_task
from influencekit.curvature import Arnoldi, Nystroem
from influencekit.exceptions import ResourceError

__all__ = ["ATTRIBUTORS", "KINDS", "growth"]

N_QUERY, CLASSES = 20, 10


class Transformer(nn.Module):
    """Two layers over tokens, mean over the tokens, one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(200, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.last = nn.Linear(32, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (n, 10) of token indices (n, 16)."""
        return self.last(self.layers(self.embed(tokens)).mean(1))


def _mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(100, 64), nn.Tanh(), nn.Linear(64, CLASSES))


def _cnn() -> nn.Module:
    layers = nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2), nn.ReLU()
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 6 * 6, CLASSES))


#: Net and inputs (n rows) of each kind of model.
KINDS = {
    "MLP": (_mlp, lambda: torch.randn(20_000, 100)),
    "CNN": (_cnn, lambda: torch.randn(4_000, 1, 15, 15)),
    "transformer": (Transformer, lambda: torch.randint(200, (4_000, 16))),
}
ATTRIBUTORS = {
    "default": lambda m: InfluenceFunction(max_memory=m),
    "fisher": lambda m: InfluenceFunction("fisher", max_memory=m),
    "kfac": lambda m: InfluenceFunction("kfac", max_memory=m),
    "ekfac": lambda m: InfluenceFunction("ekfac", max_memory=m),
    "logra": lambda m: InfluenceFunction("logra", max_memory=m),
    "datainf": lambda m: InfluenceFunction("datainf", max_memory=m),
    "arnoldi": lambda m: InfluenceFunction(Arnoldi(rank=10), damping=0.1, max_memory=m),
    "nystroem": lambda m: InfluenceFunction(Nystroem(rank=10), damping=0.1, max_memory=m),
    "TRAK": lambda m: TRAK(projection_dim=512, max_memory=m),
    "GradDot": lambda m: GradDot(max_memory=m),
    "GradCos": lambda m: GradCos(max_memory=m),
}


def growth(attributor: str, kind: str, megabytes: int) -> dict:
    """Megabytes by which the process grew in a fit and a score, or the refusal."""
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    net, data = KINDS[kind]
    X = data()
    y = torch.arange(len(X)) % CLASSES
    task = as_task(net(), nn.CrossEntropyLoss())
    gc.collect()
    before = _peak(reset=True)
    refused = ""
    try:
        fitted = ATTRIBUTORS[attributor](f"{megabytes}MB").fit(task, X, y)
        fitted.score(X[:N_QUERY], y[:N_QUERY])
    except ResourceError as error:
        refused = str(error)
    return {"growth": _peak() - before, "refused": refused, "rows": len(X)}


def _peak(reset: bool = False) -> float:
    """Megabytes at the process's peak, counted from the last reset."""
    if reset:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    with open("/proc/self/status") as file:
        lines = dict(line.split(":", 1) for line in file)
    return int(lines["VmHWM"].split()[0]) * 1024 / 1e6
