"""The whole job on ACSIncome (California): train, attribute, choose λ, check by retraining.

    INFLUENCEKIT_DATA=FOLDER python benchmarks/bench_acs_income.py [--json FILE]

FOLDER holds acs_income_2018/acs_income_2018_CA.csv.gz.  A pipeline scales two columns, makes
dummies of eight and trains a skorch net with two hidden layers on 20,000 rows.  For each
curvature the table gives the wall time of every stage and the peak memory of the process so
far beyond what it held before (data, libraries and net loaded): memory never goes down in it.
The LDS compares with models retrained on random halves of the rows, for as many epochs as the
model itself took unless --subset-epochs says otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import warnings
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
import torch
from sklearn.compose import ColumnTransformer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from skorch import NeuralNetClassifier
from torch import nn

from influencekit import InfluenceFunction, SurrogateLambdaSearchCV, retrain_on_subsets
from influencekit.exceptions import NotStationaryWarning
from influencekit.metrics._lds import PreparedOutputs

FILE = Path("acs_income_2018") / "acs_income_2018_CA.csv.gz"
NUMBERS = ["AGEP", "WKHP"]
CODES = ["COW", "SCHL", "MAR", "OCCP", "POBP", "RELP", "SEX", "RAC1P"]


class Net(nn.Module):
    """Three layers."""

    def __init__(self, n_features: int, width: int = 128):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_features, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, 2),
        )

    def forward(self, X):
        return self.layers(X)


class Stages:
    """Wall time of stages and the process's peak memory after each."""

    def __init__(self):
        self.base = peak_memory()
        self.rows: list[dict] = []

    def run(self, name: str, function):
        """Run a stage, print its line, return its result."""
        start = perf_counter()
        result = function()
        row = {
            "stage": name,
            "seconds": perf_counter() - start,
            "peak_above_base_mb": peak_memory() - self.base,
            "load": os.getloadavg()[0],
        }
        self.rows.append(row)
        print(
            f"{name:<44}{row['seconds']:>10.2f}{row['peak_above_base_mb']:>14.0f}"
            f"{row['load']:>8.1f}",
            flush=True,
        )
        return result


def peak_memory() -> float:
    """Largest resident memory of this process so far, in MB (10^6 bytes)."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def read_data(n_train: int, n_test: int):
    """Training and test rows as DataFrames with their labels; None where the file is absent."""
    folder = os.environ.get("INFLUENCEKIT_DATA")
    if folder is None or not (Path(folder) / FILE).exists():
        return None
    frame = pd.read_csv(Path(folder) / FILE)
    train, test = train_test_split(
        frame, train_size=n_train, test_size=n_test, stratify=frame["y"], random_state=0
    )
    columns = NUMBERS + CODES
    return (train[columns], train["y"].to_numpy()), (test[columns], test["y"].to_numpy())


def make_model(X, options: argparse.Namespace):
    """Unfitted pipeline: scaled numbers and dummies as float32, then the net."""
    dummies = OneHotEncoder(handle_unknown="ignore", sparse_output=False, dtype=np.float32)
    columns = ColumnTransformer([("numbers", StandardScaler(), NUMBERS), ("codes", dummies, CODES)])
    n_features = len(NUMBERS) + int(X[CODES].nunique().sum())
    net = NeuralNetClassifier(
        Net,
        module__n_features=n_features,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.SGD,
        optimizer__momentum=0.9,
        optimizer__weight_decay=1e-4,
        lr=0.05,
        batch_size=256,
        max_epochs=options.epochs,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    )
    to_float32 = FunctionTransformer(np.asarray, kw_args={"dtype": np.float32})
    return make_pipeline(columns, to_float32, net)


def attribute(curvature: str, stages: Stages, model, train, test, options):
    """Fit an attributor, choose λ by ξ, score: the fitted attributor and both searches."""
    name = f"{curvature}: "
    unfitted = InfluenceFunction(curvature, projection_dim=options.projection_dim, random_state=0)
    default = stages.run(f"{name}fit, default λ", lambda: unfitted.fit(model, *train))
    searches = {}
    for xi in (0.5, 0.37):
        search = SurrogateLambdaSearchCV(unfitted, threshold=xi, random_state=0)
        searches[f"ξ = {xi}"] = stages.run(
            f"{name}SurrogateLambdaSearchCV, ξ = {xi}",
            lambda search=search: search.fit(model, *train),
        )
    shape = f"{len(test[0]):,} x {len(train[0]):,}"
    stages.run(f"{name}score {shape}", lambda: default.score(*test))
    stages.run(f"{name}top_k {shape}", lambda: default.top_k(*test, k=10))
    stages.run(f"{name}self_influence", default.self_influence)
    return default, searches


def measure_lds(curvature: str, stages: Stages, default, searches, queries, truth) -> dict:
    """ξ and LDS along the path of λ, and at every pick."""
    prepared = PreparedOutputs(truth.outputs)
    path = stages.run(
        f"{curvature}: path of {len(queries[0])} queries", lambda: default.damping_path(*queries)
    )
    grid = searches["ξ = 0.5"].cv_results_["param_damping"]
    sums = path.subset_sums(truth.masks)
    lds = stages.run(
        f"{curvature}: LDS at {len(grid)} λ", lambda: prepared.correlations(sums.at(grid))
    )
    lds = np.nanmean(lds, axis=1)
    picks = {"default λ": default.damping_}
    picks |= {name: search.best_params_["damping"] for name, search in searches.items()}
    picks["best of the grid"] = float(grid[lds.argmax()])
    rows = []
    for pick, damping in picks.items():
        found = prepared.score(sums.at(damping))
        xi = float(path.xi(damping).mean())
        row = {"pick": pick, "damping": damping, "xi": xi, "lds": found.mean}
        rows.append({"curvature": curvature, **row, "standard_error": found.standard_error})
    curve = {"damping": grid.tolist(), "xi": path.xi(grid).mean(1).tolist(), "lds": lds.tolist()}
    return {"rows": rows, "curve": curve, "noise_ceiling": prepared.noise_ceiling}


def main() -> None:
    """Read the command line, run the job, print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=int, default=20_000)
    parser.add_argument("--test", type=int, default=1_000)
    parser.add_argument("--queries", type=int, default=200, help="test rows of the LDS")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--subset-epochs", type=int, help="of retrainings; default --epochs")
    parser.add_argument("--subsets", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=1, help="retrainings of each subset")
    parser.add_argument("--projection-dim", type=int, default=1024)
    parser.add_argument("--curvatures", nargs="+", default=["ggn", "fisher"])
    parser.add_argument("--threads", type=int, help="torch threads; default all")
    parser.add_argument("--cache-dir", help="where retrainings are kept for a later run")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    data = read_data(options.train, options.test)
    if data is None:
        print(f"skipped: INFLUENCEKIT_DATA names no folder that holds {FILE}")
        return
    warnings.simplefilter("once", NotStationaryWarning)
    run(options, *data)


def run(options: argparse.Namespace, train, test) -> None:
    """Run all stages, print the tables, write the file."""
    X, y = train
    stages = Stages()
    print(f"{'stage':<44}{'seconds':>10}{'peak + MB':>14}{'load':>8}\n{'-' * 76}")
    torch.manual_seed(0)
    model = stages.run(f"train {options.epochs} epochs", lambda: make_model(X, options).fit(X, y))
    accuracy = float(np.mean(model.predict(test[0]) == test[1]))
    stages.base = peak_memory()
    retrained = model
    if options.subset_epochs:
        retrained = make_model(X, options).set_params(
            neuralnetclassifier__max_epochs=options.subset_epochs
        )
    queries = tuple(part[: options.queries] for part in test)
    truth = stages.run(
        f"retrain {options.subsets} x {options.repeats} on halves",
        lambda: retrain_on_subsets(
            retrained,
            *train,
            *queries,
            n_subsets=options.subsets,
            n_repeats=options.repeats,
            cache_dir=options.cache_dir,
            random_state=0,
        ),
    )
    lds = {}
    for curvature in options.curvatures:
        fitted = attribute(curvature, stages, model, train, test, options)
        lds[curvature] = measure_lds(curvature, stages, *fitted, queries, truth)
    report = {
        "settings": {k: v for k, v in vars(options).items() if k not in ("json", "cache_dir")},
        "n_parameters": sum(p.numel() for p in model[-1].module_.parameters()),
        "accuracy": accuracy,
        "threads": torch.get_num_threads(),
        "peak_mb": peak_memory(),
        "base_mb": stages.base,
        "stages": stages.rows,
        "lds": lds,
    }
    print(table(report))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=2), encoding="utf-8")


def table(report: dict) -> str:
    """Facts of the run, and the LDS of every choice of λ."""
    ceiling = next(iter(report["lds"].values()))["noise_ceiling"]
    lines = [
        f"\n{report['n_parameters']:,} parameters, test accuracy {report['accuracy']:.3f}, "
        f"{report['threads']} threads, peak memory {report['peak_mb']:,.0f} MB, of which "
        f"{report['base_mb']:,.0f} MB before the first retraining",
        "attainable LDS: " + (f"{ceiling:.3f}\n" if ceiling else "needs --repeats 2 or more\n"),
        f"{'curvature':<12}{'λ chosen by':<20}{'λ':>10}{'mean ξ':>9}{'LDS':>9}{'± s.e.':>9}",
        "-" * 69,
    ]
    for result in report["lds"].values():
        for row in result["rows"]:
            lines.append(
                f"{row['curvature']:<12}{row['pick']:<20}{row['damping']:>10.2e}"
                f"{row['xi']:>9.3f}{row['lds']:>9.3f}{row['standard_error']:>9.3f}"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
