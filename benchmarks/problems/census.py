"""ACSIncome (California) with a pipeline; a made-up table of the same columns without the file."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.compose import ColumnTransformer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from benchmarks.problems import data, nets


def census(n_train: int, n_test: int, epochs: int):
    """Training rows, test rows, and a function that makes an unfitted pipeline."""
    frame = data.acs_frame() if data.has(data.ACS) else made_up(n_train + n_test)
    train, test = train_test_split(
        frame, train_size=n_train, test_size=n_test, stratify=frame["y"], random_state=0
    )
    columns = data.NUMBERS + data.CODES
    sides = [(part[columns], part["y"].to_numpy()) for part in (train, test)]
    return *sides, lambda: pipeline(sides[0][0], epochs)


def pipeline(X, epochs: int):
    """Scaled numbers and dummies as float32, then the net."""
    dummies = OneHotEncoder(handle_unknown="ignore", sparse_output=False, dtype=np.float32)
    columns = ColumnTransformer(
        [("numbers", StandardScaler(), data.NUMBERS), ("codes", dummies, data.CODES)]
    )
    n_features = len(data.NUMBERS) + int(X[data.CODES].nunique().sum())
    recipe = {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9}
    recipe |= {"optimizer__weight_decay": 1e-4, "lr": 0.05, "batch_size": 256}
    sizes = (n_features, 128, 128, 2)
    net = nets.skorch_net(nets.MLP, {**recipe, "max_epochs": epochs}, module__sizes=sizes)
    to_float32 = FunctionTransformer(np.asarray, kw_args={"dtype": np.float32})
    return make_pipeline(columns, to_float32, net)


def made_up(n: int):
    """The same columns at random, for runs without the file."""
    import pandas as pd

    rng = np.random.RandomState(0)
    frame = pd.DataFrame({name: rng.randint(18, 80, n) for name in data.NUMBERS})
    for i, name in enumerate(data.CODES):
        frame[name] = rng.randint(3 + i, size=n)
    frame["y"] = frame["AGEP"] + frame["WKHP"] + 10 * rng.randn(n) > 98
    frame["y"] = frame["y"].astype(int)
    return frame
