"""Files that the command line reads: a saved model and tables."""

from __future__ import annotations

from pathlib import Path

import joblib
import numpy as np
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from benchmarks.problems import data

__all__ = ["acs_files"]


def acs_files(folder: Path, n: int, n_model: int, n_queries: int, parquet: bool) -> list[str]:
    """ACSIncome in files, a Pipeline fitted on some rows, and the words that name them."""
    import pandas as pd

    codes, y = data.acs_codes(n)
    table = pd.DataFrame(codes, columns=[*data.NUMBERS, *data.CODES])
    dummies = OneHotEncoder(
        handle_unknown="infrequent_if_exist", min_frequency=20, dtype=np.float32
    )
    model = make_pipeline(dummies, MLPClassifier((32,), max_iter=4, random_state=0))
    some = np.random.default_rng(0).permutation(len(y))[:n_model]
    joblib.dump(model.fit(table.iloc[some], y[some]), folder / "model.joblib")
    table = table.assign(y=y)
    if parquet:
        (folder / "train").mkdir()
        for i, start in enumerate(range(0, len(y), 100_000)):
            part = table[start : start + 100_000]
            part.to_parquet(folder / "train" / f"{i}.parquet", index=False)
    else:
        table.to_csv(folder / "train.csv", index=False)
    table[:n_queries].to_csv(folder / "queries.csv", index=False)
    train = "train" if parquet else "train.csv"
    return [
        "--model",
        f"{folder}/model.joblib",
        "--trust",
        "--target",
        "y",
        "--train",
        f"{folder}/{train}",
    ]
