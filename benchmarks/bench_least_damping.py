"""The default damping of small nets, with and without the least damping of stopped classifiers.

    INFLUENCEKIT_DATA=FOLDER python benchmarks/bench_least_damping.py [--seeds 5 6] [--json FILE]

Tables, digits and texts of 90 to 600 rows, and models that fit them with few errors or none.  For
each setting and curvature: the linear datamodeling score of 100 test rows (60 random halves, 2
trainings each) at the damping that the spectrum alone gives, at the default, and at the best of a
grid.  "Chosen on" settings were looked at with seeds 0 and 1 when the two constants of
``influencekit/damping/_effective_sample_size.py`` were chosen; the others came after.
"""

from __future__ import annotations

import argparse
import json
import os
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from selector_settings import (
    ADAMW,
    SGD,
    Setting,
    acs,
    cifar2,
    cnn,
    digits,
    logistic,
    mlp_setting,
    mnist,
)
from sklearn.datasets import (
    load_breast_cancer,
    load_digits,
    load_iris,
    load_wine,
    make_classification,
    make_moons,
)
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import StandardScaler

from influencekit import InfluenceFunction, retrain_on_subsets
from influencekit.damping import auto_damping
from influencekit.metrics._lds import PreparedOutputs

CURVATURES = ("ggn", "fisher", "ekfac", "kfac", "logra")
N_QUERY, N_SUBSETS = 100, 60


def shuffled(load):
    """Reader of a table that comes with scikit-learn, columns standardized."""

    def read(folder, rng, n_train, n_query):
        X, y = load(return_X_y=True)
        order = rng.permutation(len(X))
        return StandardScaler().fit_transform(X)[order], y[order]

    return read


def zeros_and_ones(folder, rng, n_train, n_query):
    X, y = load_digits(n_class=2, return_X_y=True)
    order = rng.permutation(len(X))
    return (X / 16)[order], y[order]


def parity(folder, rng, n_train, n_query):
    X, y = digits(folder, rng, n_train, n_query)
    return X, y % 2


def two_of_mnist(first, second):
    """Reader of two classes of MNIST."""

    def read(folder, rng, n_train, n_query):
        file = np.load(Path(folder) / "mnist" / "mnist.npz")
        rows = np.flatnonzero(np.isin(file["y_train"], [first, second]))
        rows = rng.choice(rows, n_train + n_query, replace=False)
        images = file["X_train"][rows].astype(np.float64) / 255
        images = images.reshape(-1, 14, 2, 14, 2).mean((2, 4)).reshape(-1, 196)
        return images, (file["y_train"][rows] == second).astype(int)

    return read


def synthetic(n_classes, n_informative, class_sep, flip_y):
    """Reader of scikit-learn's ``make_classification`` with 20 columns."""

    def read(folder, rng, n_train, n_query):
        return make_classification(
            n_train + n_query, 20, n_informative=n_informative, n_classes=n_classes,
            class_sep=class_sep, flip_y=flip_y, random_state=rng.randint(1000),
        )  # fmt: skip

    return read


def moons(folder, rng, n_train, n_query):
    return make_moons(n_train + n_query, noise=0.15, random_state=rng.randint(1000))


def sst2(folder, rng, n_train, n_query):
    """50 components of tf-idf."""
    table = pd.read_csv(Path(folder) / "sst2" / "train.tsv.gz", sep="\t")
    table = table.iloc[rng.choice(len(table), n_train + n_query, replace=False)]
    text = next(c for c in table.columns if c != "label")
    words = TfidfVectorizer(sublinear_tf=True).fit_transform(table[text])
    return StandardScaler().fit_transform(TruncatedSVD(50, random_state=0).fit_transform(words)), (
        table["label"].to_numpy()
    )


def sgd(lr, epochs, **more):
    return SGD | {"lr": lr, "max_epochs": epochs} | more


def adamw(lr, epochs):
    return ADAMW | {"lr": lr, "max_epochs": epochs}


def settings() -> dict[str, list[Setting]]:
    """Settings that the constants were chosen on, and those that came after."""
    make = partial(mlp_setting, dims=(None,))
    decay = {"optimizer__weight_decay": 5e-3}
    cancer, wine, iris = shuffled(load_breast_cancer), shuffled(load_wine), shuffled(load_iris)
    chosen_on = [
        make("digits, 150 rows", digits, 150, (32,), 10, sgd(0.05, 40)),
        make("digits, 300 rows, AdamW", digits, 300, (32,), 10, adamw(3e-3, 25)),
        make("digits 0 and 1", zeros_and_ones, 200, (16,), 2, sgd(0.05, 20)),
        make("ACSIncome, 300 rows", acs, 300, (32,), 2, sgd(0.05, 30)),
        make("breast cancer, 100 rows, AdamW", cancer, 100, (16,), 2, adamw(5e-3, 30)),
        make("breast cancer, 400 rows, decay", cancer, 400, (16,), 2, sgd(0.1, 20, **decay)),
        make("wine, AdamW", wine, 110, (16,), 3, adamw(5e-3, 40)),
        Setting("breast cancer, logistic, C = 1", cancer, 350, partial(logistic, 1.0), {}, ()),
        Setting("breast cancer, logistic, C = 100", cancer, 350, partial(logistic, 100.0), {}, ()),
        Setting("wine, logistic", wine, 110, partial(logistic, 1.0), {}, ()),
        Setting("iris, logistic", iris, 90, partial(logistic, 1.0), {}, ()),
        make("MNIST, 200 rows", mnist, 200, (32,), 10, sgd(0.03, 40)),
    ]
    after = [
        make("MNIST 4 and 9", two_of_mnist(4, 9), 300, (32,), 2, sgd(0.05, 30)),
        make("MNIST 0 and 1, AdamW", two_of_mnist(0, 1), 200, (32,), 2, adamw(3e-3, 15)),
        make("digits, odd or even, AdamW", parity, 400, (32,), 2, adamw(3e-3, 30)),
        make("synthetic, 2 classes", synthetic(2, 8, 1.0, 0.02), 300, (16,), 2, sgd(0.05, 30)),
        make("moons, AdamW", moons, 200, (16, 16), 2, adamw(1e-2, 60)),
        make("synthetic, 4 classes", synthetic(4, 10, 1.5, 0.01), 400, (32,), 4, sgd(0.05, 30)),
        make("SST-2, 500 rows", sst2, 500, (16,), 2, sgd(0.05, 30)),
        make("ACSIncome, 600 rows, AdamW", acs, 600, (32,), 2, adamw(3e-3, 20)),
        make("iris, AdamW", iris, 90, (16,), 3, adamw(1e-2, 60)),
        make("breast cancer, linear", cancer, 200, (), 2, sgd(0.02, 30)),
        Setting(
            "CIFAR-2, CNN", cifar2, 300, partial(cnn, sgd(0.02, 25)), sgd(0.02, 25), ()
        ),
    ]  # fmt: skip
    return {"chosen on": chosen_on, "after": after}


def measure(setting: Setting, seed: int, folder) -> dict[str, tuple[float, float]]:
    """By curvature, LDS over the best LDS: the spectrum alone, the default."""
    n_query = 50 if setting.n_train in (90, 110) else N_QUERY  # iris and wine have no more rows
    data = setting.load(folder, seed, n_query)
    queries = (data.X_query, data.y_query)
    n_repeats = 2 if setting.recipe else 1
    truth = retrain_on_subsets(
        data.model, data.X, data.y, *queries, n_subsets=N_SUBSETS, n_repeats=n_repeats,
        output="margin", random_state=seed,
    )  # fmt: skip
    prepared, members = PreparedOutputs(truth.outputs), truth.masks.T.astype(float)
    found = {}
    for name in CURVATURES:
        influence = InfluenceFunction(name, output="margin", random_state=0)
        influence.fit(data.model, data.X, data.y)
        path = influence.damping_path(*queries)
        largest = float(influence.curvature_.eigenvalues.max())
        dampings = [auto_damping(influence.curvature_), float(influence.damping_)]
        dampings += list(np.geomspace(1e-7, 1e2, 37) * largest)
        lds = [
            float(np.nanmean(prepared.correlations(path.scores(float(d)) @ members)))
            for d in dampings
        ]
        found[name] = (lds[0] / max(lds), lds[1] / max(lds))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[5, 6])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    folder = os.environ.get("INFLUENCEKIT_DATA")
    if folder is None:
        raise SystemExit("Set INFLUENCEKIT_DATA to the folder with mnist, cifar2, sst2 and acs.")
    results = []
    for half, group in settings().items():
        ratios: dict[str, list[tuple[float, float]]] = {}
        for setting in group:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                own = [measure(setting, seed, folder) for seed in arguments.seeds]
            cells = {name: np.mean([m[name] for m in own], 0) for name in own[0]}
            results.append({"half": half, "setting": setting.name, "ratios": own})
            for name, pair in cells.items():
                ratios.setdefault(name, []).append(tuple(pair))
            text = ["{:.2f}, {:.2f}".format(*cells[name]) for name in CURVATURES]
            print(f"| {setting.name} | {half} | " + " | ".join(text) + " |", flush=True)
        for name, pairs in ratios.items():
            mean, worst = np.mean(pairs, 0), np.min(pairs, 0)
            print(
                f"{half}, {name}: mean {mean[0]:.3f} alone, {mean[1]:.3f} with it; "
                f"worst {worst[0]:.3f}, {worst[1]:.3f}"
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
