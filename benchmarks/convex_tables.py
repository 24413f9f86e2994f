"""Linear models on tables as they come and prepared: the default damping beside the best.

    python benchmarks/convex_tables.py

For each table, model and preparation: the linear datamodeling score (LDS) of
``InfluenceFunction()`` at its default damping, at the best of 37 dampings and at 0; and the Pearson
correlation and the slope of its scores beside leave-one-out refits, at the default and at 0.  The
reference is scikit-learn alone: models fitted again, without the library.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.base import clone, is_classifier
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from influencekit import InfluenceFunction
from influencekit.datasets import fetch_acs_income, fetch_uci_concrete
from influencekit.exceptions import InfluenceKitWarning

N_TRAIN, N_QUERY = 600, 40
N_SUBSETS, N_LEFT_OUT = 50, 30


@dataclass
class Row:
    """One table, model and preparation."""

    table: str
    model: str
    prepared: bool
    damping: float
    best_damping: float
    lds_default: float
    lds_best: float
    lds_zero: float
    pearson: float
    pearson_zero: float
    slope: float
    seconds: float


def tables() -> dict[str, Callable[[], tuple]]:
    """Functions that load X, y by name; labels are integers."""
    return {
        "breast cancer": lambda: load_breast_cancer(return_X_y=True),
        "wine": lambda: load_wine(return_X_y=True),
        "iris": lambda: load_iris(return_X_y=True),
        "digits": lambda: load_digits(return_X_y=True),
        "diabetes": lambda: load_diabetes(return_X_y=True, scaled=False),
        "diabetes, scaled": lambda: load_diabetes(return_X_y=True),
        "concrete": lambda: fetch_uci_concrete(return_X_y=True, download_if_missing=False),
        "income, codes": _income,
        "income, encoded": _encoded_income,
        "randhie": lambda: _statsmodels("randhie"),
        "fair": lambda: _statsmodels("fair"),
        "star98": lambda: _statsmodels("star98"),
    }


def _income() -> tuple:
    X, y = fetch_acs_income("CA", as_frame=True, return_X_y=True, download_if_missing=False)
    rows = np.random.default_rng(0).permutation(len(X))[:2000]
    return X.iloc[rows].astype(float).to_numpy(), np.asarray(y)[rows].astype(int)


def _encoded_income() -> tuple:
    X, y = _income()
    codes = OneHotEncoder(
        min_frequency=20, sparse_output=False, handle_unknown="infrequent_if_exist"
    )
    numbers = [0, 7]  # age, hours of work
    others = [j for j in range(X.shape[1]) if j not in numbers]
    encode = make_column_transformer((StandardScaler(), numbers), (codes, others))
    return encode.fit_transform(X), y


def _statsmodels(name: str) -> tuple:
    from statsmodels.datasets import fair, randhie, star98

    data = {"fair": fair, "randhie": randhie, "star98": star98}[name].load_pandas()
    y = np.asarray(data.endog, dtype=float)
    y = y[:, 0] / y.sum(1) if y.ndim == 2 else y
    return np.asarray(data.exog, dtype=float), y


def models(y: np.ndarray) -> dict[str, object]:
    """Models that fit the target."""
    if y.dtype.kind in "iu":
        newton = {"solver": "newton-cholesky", "tol": 1e-8, "max_iter": 1000}
        return {"logistic": LogisticRegression(**newton)}
    return {"least squares": LinearRegression(), "ridge": Ridge(1.0)}


def outputs(model, Q, u) -> np.ndarray:
    """Log-probability of labels, or minus the squared error's half... of what is explained."""
    if is_classifier(model):
        return model.predict_log_proba(Q)[np.arange(len(u)), np.searchsorted(model.classes_, u)]
    return model.predict(Q)


def retrained(model, X, y, Q, u, masks) -> np.ndarray:
    """Outputs (n_masks, n_query) of models fitted on some of the rows."""
    return np.stack([outputs(clone(model).fit(X[m], y[m]), Q, u) for m in masks])


def row_means(a: np.ndarray, b: np.ndarray) -> float:
    """Mean correlation of the rows of a with those of b."""
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(np.mean((a * b).sum(1)[lengths > 0] / lengths[lengths > 0]))


def measure(table: str, name: str, model, X, y, prepared: bool) -> Row:
    """One row of the study."""
    start, rng = time.perf_counter(), np.random.default_rng(0)
    rows = rng.permutation(len(X))[: N_TRAIN + N_QUERY]
    rows = rows[:-N_QUERY] if len(rows) > 4 * N_QUERY else rows
    train, query = rows[: len(rows) - N_QUERY], rows[len(rows) - N_QUERY :]
    X, y, Q, u = X[train], y[train], X[query], y[query]
    if prepared:
        scaler = StandardScaler().fit(X)
        X, Q = scaler.transform(X), scaler.transform(Q)
    n = len(X)
    masks = np.stack([_mask(n, rng) for _ in range(N_SUBSETS)])
    masks = (
        np.stack([m for m in masks if len(np.unique(y[m])) == len(np.unique(y))])
        if (is_classifier(model))
        else masks
    )
    truth = retrained(model, X, y, Q, u, masks).T
    fitted = clone(model).fit(X, y)
    left_out = rng.choice(n, min(N_LEFT_OUT, n), replace=False)
    without = ~np.eye(n, dtype=bool)[left_out]
    effects = outputs(fitted, Q, u)[:, None] - retrained(model, X, y, Q, u, without).T
    output = "auto" if is_classifier(model) else "prediction"
    influence = InfluenceFunction(output=output).fit(fitted, X, y)
    path = influence.damping_path(Q, u)
    grid = np.r_[0.0, np.geomspace(1e-11, 10, 36) * influence.eigenvalues_.max()]
    ranks = np.apply_along_axis(rankdata, 1, truth)
    lds = [
        row_means(np.apply_along_axis(rankdata, 1, path.scores(d) @ masks.T), ranks) for d in grid
    ]
    own = influence.score(Q, u)
    zero = path.scores(0.0)
    default = row_means(np.apply_along_axis(rankdata, 1, own @ masks.T), ranks)
    chosen = own[:, left_out]
    return Row(
        table,
        name,
        prepared,
        float(influence.damping_),
        float(grid[int(np.argmax(lds))]),
        default,
        max([default, *lds]),
        lds[0],
        row_means(chosen, effects),
        row_means(zero[:, left_out], effects),
        float((chosen * effects).sum() / (effects**2).sum()),
        time.perf_counter() - start,
    )


def _mask(n: int, rng) -> np.ndarray:
    mask = np.zeros(n, dtype=bool)
    mask[rng.choice(n, n // 2, replace=False)] = True
    return mask


def study(only: str = "") -> Iterator[Row]:
    """All rows; tables that are not installed are skipped with the reason."""
    for table, load in tables().items():
        if only not in table:
            continue
        try:
            X, y = load()
        except (ImportError, OSError, FileNotFoundError) as error:
            print(f"skipped {table}: {error}", flush=True)
            continue
        for name, model in models(y).items():
            for prepared in (False, True):
                yield measure(table, name, model, X, y, prepared)


def summary(rows: pd.DataFrame) -> dict[str, float]:
    """The figures that the default is judged by."""
    share = rows.lds_default / rows.lds_best
    fails = (rows.pearson < 0.95) & (rows.pearson < rows.pearson_zero - 0.01)
    return {
        "share of the best LDS, median": float(share.median()),
        "share of the best LDS, worst": float(share.min()),
        "leave-one-out Pearson, median": float(rows.pearson.median()),
        "leave-one-out Pearson, worst": float(rows.pearson.min()),
        "cells below .95 and more than .01 below no damping": int(fails.sum()),
    }


def main() -> None:
    """Run the study, print its table and its summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="part of a table's name")
    parser.add_argument("--out", type=Path, help="JSON file for the rows")
    options = parser.parse_args()
    warnings.simplefilter("ignore", InfluenceKitWarning)
    rows = []
    for row in study(options.only):
        rows.append(asdict(row))
        print(
            {k: round(v, 4) if isinstance(v, float) else v for k, v in rows[-1].items()}, flush=True
        )
    frame = pd.DataFrame(rows)
    print(frame.round(4).to_string())
    print(json.dumps(summary(frame), indent=1))
    if options.out:
        options.out.write_text(json.dumps({"rows": rows, "summary": summary(frame)}, indent=1))


if __name__ == "__main__":
    main()
