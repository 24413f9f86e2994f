"""Runs the code of the tables among small data and fitted models."""

import contextlib
import importlib
import io
import threading
import warnings
from functools import cache, partial

import numpy as np
import pandas as pd
import torch
from sklearn import linear_model, neural_network
from sklearn.datasets import load_iris
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from influencekit.exceptions import InfluenceKitWarning, NotStationaryWarning
from tests.advice import _names

__all__ = ["said_by"]

ROOMS = (
    "applications curvature data displays gradients groups index metrics models report selection "
    "training values"
)

with_lock = partial(lambda *_, lock: world()["model"], lock=threading.Lock())  # no fingerprint


def retrained(model, **options):
    names = world()
    X = names["Z" if hasattr(model, "module_") else "X"]
    queries = X[:9], names["y"][:9]
    return names["retrain_on_subsets"](model, X, names["y"], *queries, n_subsets=4, **options)


def recorded(module=None, **options):
    """A module trained inside record_trajectory, as a task, and the recorder."""
    module, names = module or _names.Net(), world()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    dtype = next(module.parameters()).dtype
    X, y = torch.from_numpy(names["Z"]).to(dtype), torch.from_numpy(names["y"])
    with names["record_trajectory"](module, optimizer, n_rows=len(X), **options) as recorder:
        for rows in torch.arange(len(X)).split(10):
            recorder.rows(rows)
            optimizer.zero_grad()
            F.cross_entropy(module(X[rows]), y[rows]).backward()
            optimizer.step()
    return names["as_task"](module, loss=nn.CrossEntropyLoss()), recorder


@cache
def world():
    """Names for the code; data and models are read only."""
    names = dict(vars(importlib.import_module("influencekit")))
    for room in ROOMS.split():
        module = importlib.import_module(f"influencekit.{room}")
        names |= {name: getattr(module, name) for name in module.__all__}
    for library in (linear_model, neural_network):
        names |= {name: getattr(library, name) for name in library.__all__}
    names |= {k: v for k, v in vars(_names).items() if not k.startswith("_")}
    names |= {f.__name__: f for f in (recorded, retrained)} | {"with_lock": with_lock}
    names |= data()
    return names | models(names)


def data():
    X, y = (a[::3] for a in load_iris(return_X_y=True))
    y, Z = y.astype(np.int64), X.astype(np.float32)
    rng = np.random.default_rng(0)
    return {
        "X": X,
        "y": y,
        "Z": Z,
        "t": X @ [1.0, 2.0, -1.0, 0.5] + 0.1 * rng.normal(size=len(X)),
        "b": (y > 0).astype(np.int64),
        "many": np.stack([y == 0, y > 0], 1).astype(int),
        "wide": X * [1.0, 1.0, 1.0, 1e7],
        "codes": np.floor(X),
        "frame": pd.DataFrame(X, columns=["p", "q", "r", "s"]),
        "tensors": TensorDataset(torch.from_numpy(Z), torch.from_numpy(y)),
        "words": torch.from_numpy(rng.integers(0, 120, (8, 40))),
        "asked": {"X_query": X[:9], "y_query": y[:9]},
        "two": (Z[:2], y[:2]),
        "quick": {"n_subsets": 4, "n_trials": 2},
        "once": {"n_repeats": 1, "random_state": 0, "left_out": [0]},
    }


def models(names):
    X, y, Z, as_task = (names[name] for name in ("X", "y", "Z", "as_task"))
    torch.manual_seed(0)
    module = _names.Net()
    task = as_task(module, loss=nn.CrossEntropyLoss())
    lm = nn.Sequential(nn.Embedding(120, 4), nn.Linear(4, 120))
    model = _names.classifier().fit(X, y)
    return {
        "model": model,
        "iris": (model, X, y),
        "ridge": linear_model.Ridge().fit(X, names["t"]),
        "net": _names.skorch_net().fit(Z, y),
        "module": module,
        "module_task": task,
        "other_task": as_task(nn.Linear(4, 3), loss=nn.CrossEntropyLoss()),
        "learned": (task, Z, y),
        "lm": lm,
        "classes_second": _names.ClassesSecond(lm),
    }


def said_by(code: str) -> list[str]:
    """Errors and warnings of the package when the code runs; other warnings are let be."""
    said = []
    with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", NotStationaryWarning)  # models here are hardly trained
        try:
            exec(code, dict(world()))
        except Exception as error:
            said.append(f"raised {type(error).__name__}: {error}")
    said += [str(w.message) for w in caught if issubclass(w.category, InfluenceKitWarning)]
    return said
