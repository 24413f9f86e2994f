"""Rows of a ground truth, from scikit-learn, statsmodels or the data folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import datasets
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from influencekit.datasets._acs import fetch_acs_income
from influencekit.datasets._concrete import fetch_uci_concrete
from influencekit.datasets._truth_language import PASSAGES, file_of, passages, tokens_of
from influencekit.utils._archives import read_arrays
from influencekit.utils._optional import import_optional

__all__ = ["SOURCES", "n_rows", "read_rows"]

CALLER = "load_ground_truth"
#: Positions of ACSIncome's columns that are numbers: age, hours of work.
NUMBERS = [0, 7]
N_WORDS, N_COMPONENTS, LENGTH = 800, 400, 24


def _scikit_learn(name: str) -> Callable:
    def read(_home: Path) -> tuple[Any, NDArray]:
        return getattr(datasets, f"load_{name}")(return_X_y=True)

    return read


def _linnerud(_home: Path) -> tuple[Any, NDArray]:
    """Exercises, and the weight of who did them."""
    X, y = datasets.load_linnerud(return_X_y=True)
    return X, y[:, 0]


def _statsmodels(name: str) -> Callable:
    def read(_home: Path) -> tuple[Any, NDArray]:
        api = import_optional("statsmodels.api", CALLER)
        found = getattr(api.datasets, name).load_pandas()
        y = np.asarray(found.endog, dtype=float)
        if name == "star98":  # share of pupils above the median
            y = y[:, 0] / y.sum(axis=1)
        y = (y > 0).astype(int) if name == "fair" else np.log1p(y)
        return found.exog.to_numpy(dtype=float), y

    return read


def _concrete(home: Path) -> tuple[Any, NDArray]:
    return fetch_uci_concrete(data_home=home, return_X_y=True, download_if_missing=False)


def _income(state: str) -> Callable:
    def read(home: Path) -> tuple[Any, NDArray]:
        X, y = fetch_acs_income(
            state, data_home=home, as_frame=False, return_X_y=True, download_if_missing=False
        )
        return X, np.asarray(y).astype(int)

    return read


def _images(folder: str, name: str) -> Callable:
    """Means of 2 x 2 pixels, from 0 to 1, channels first, as rows."""

    def read(home: Path) -> tuple[Any, NDArray]:
        found = read_arrays(file_of(home, folder, name))
        images, y = found["X_train"], found["y_train"].astype(int)

        def rows(chosen: NDArray) -> NDArray:
            some = images[chosen].astype(float) / 255
            some = some[..., None] if some.ndim == 3 else some
            n, size, _, channels = some.shape
            some = some.reshape(n, size // 2, 2, size // 2, 2, channels).mean(axis=(2, 4))
            return some.transpose(0, 3, 1, 2).reshape(n, -1)

        return rows, y

    return read


def _sentences(home: Path) -> tuple[Any, NDArray]:
    pandas = import_optional("pandas", CALLER)
    frame = pandas.read_csv(file_of(home, "sst2", "train.tsv.gz"), sep="\t", quoting=3)
    return frame["sentence"].astype(str).to_numpy(), frame["label"].to_numpy().astype(int)


def _passages(home: Path) -> tuple[Any, NDArray]:
    """Tokens; what follows them is what a language model learns."""
    texts, articles = passages(home)
    return lambda chosen: tokens_of(home, texts[chosen]), articles


# ---- what a model is given of them -------------------------------------------------------------


def _scaled(train: NDArray, query: NDArray) -> tuple[NDArray, NDArray]:
    scaler = StandardScaler().fit(train)
    return scaler.transform(train), scaler.transform(query)


def _as_it_is(train: NDArray, query: NDArray) -> tuple[NDArray, NDArray]:
    return train, query


def _sixteenths(train: NDArray, query: NDArray) -> tuple[NDArray, NDArray]:
    return train / 16, query / 16


def _codes(train: NDArray, query: NDArray) -> tuple[NDArray, NDArray]:
    """Numbers scaled, other columns as dummies, rare codes together."""
    others = [j for j in range(train.shape[1]) if j not in NUMBERS]
    numbers = _scaled(train[:, NUMBERS], query[:, NUMBERS])
    encoder = OneHotEncoder(
        min_frequency=10, handle_unknown="infrequent_if_exist", sparse_output=False
    ).fit(train[:, others])
    dummies = encoder.transform(train[:, others]), encoder.transform(query[:, others])
    return np.hstack([numbers[0], dummies[0]]), np.hstack([numbers[1], dummies[1]])


def _tfidf(train: NDArray, query: NDArray) -> tuple[NDArray, NDArray]:
    words = TfidfVectorizer(sublinear_tf=True, max_features=N_COMPONENTS).fit(train)
    return words.transform(train).toarray(), words.transform(query).toarray()


def _words(train: NDArray, query: NDArray) -> tuple[NDArray, NDArray]:
    """Numbers of the most frequent words in order; 0 is padding."""
    counter = CountVectorizer(max_features=N_WORDS).fit(train)
    analyze, known = counter.build_analyzer(), counter.vocabulary_

    def numbers(texts: NDArray) -> NDArray:
        rows = np.zeros((len(texts), LENGTH), dtype=np.int64)
        for row, text in zip(rows, texts, strict=True):
            found = [known[w] + 1 for w in analyze(text) if w in known][:LENGTH]
            row[: len(found)] = found
        return rows

    return numbers(train), numbers(query)


#: Reader, preparation of inputs, and whether the target is a class.
SOURCES: dict[str, tuple[Callable, Callable, bool]] = {
    "iris": (_scikit_learn("iris"), _scaled, True),
    "wine": (_scikit_learn("wine"), _scaled, True),
    "breast-cancer": (_scikit_learn("breast_cancer"), _scaled, True),
    "digits": (_scikit_learn("digits"), _sixteenths, True),
    "diabetes": (_scikit_learn("diabetes"), _scaled, False),
    "linnerud": (_linnerud, _scaled, False),
    "concrete": (_concrete, _scaled, False),
    "randhie": (_statsmodels("randhie"), _scaled, False),
    "fair": (_statsmodels("fair"), _scaled, True),
    "star98": (_statsmodels("star98"), _scaled, False),
    **{f"acs-{s.lower()}": (_income(s), _codes, True) for s in ("CA", "FL", "NY", "TX")},
    "mnist": (_images("mnist", "mnist.npz"), _as_it_is, True),
    "cifar2": (_images("cifar2", "cifar2_cat_dog.npz"), _as_it_is, True),
    "sst2-tfidf": (_sentences, _tfidf, True),
    "sst2-words": (_sentences, _words, True),
    PASSAGES: (_passages, _as_it_is, True),
}


def n_rows(source: str, home: Path) -> int:
    """Rows that a source has."""
    return len(SOURCES[source][0](home)[1])


def read_rows(
    source: str, home: Path, train: NDArray, query: NDArray
) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """X, y, X_query and y_query of a source, prepared by what the training rows say.

    Targets that are numbers have mean 0 and standard deviation 1 over the training rows.
    """
    read, prepare, classifies = SOURCES[source]
    X, y = read(home)
    if max(train.max(), query.max()) >= len(y):
        raise ValueError(
            f"name: {source} has {len(y):,} rows, and the ground truth uses row "
            f"{max(train.max(), query.max()):,}. The data are others than it was made of."
        )
    rows = X if callable(X) else X.__getitem__
    inputs = prepare(rows(train), rows(query))
    targets = y[train], y[query]
    if not classifies:
        mean, scale = targets[0].mean(), targets[0].std()
        targets = (targets[0] - mean) / scale, (targets[1] - mean) / scale
    return inputs[0], targets[0], inputs[1], targets[1]
