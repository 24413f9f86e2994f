"""Files and arrays, each read in one place."""

from __future__ import annotations

import gzip
import os
from functools import cache
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits, load_wine
from sklearn.preprocessing import OneHotEncoder, StandardScaler, scale

MNIST = "mnist/mnist.npz"
CIFAR2 = "cifar2/cifar2_cat_dog.npz"
ACS = "acs_income_2018/acs_income_2018_CA.csv.gz"
ACS_STATES = "acs_income_2018/acs_income_2018_40pct.npz"
STATES = {"CA": 6, "FL": 12, "NY": 36, "TX": 48}
CONCRETE = "uci_concrete/concrete.csv.gz"
SST2 = "sst2/train.tsv.gz"
NUMBERS = ["AGEP", "WKHP"]
CODES = ["COW", "SCHL", "MAR", "OCCP", "POBP", "RELP", "SEX", "RAC1P"]


def home() -> Path | None:
    """The folder INFLUENCEKIT_DATA, if it is set."""
    folder = os.environ.get("INFLUENCEKIT_DATA")
    return Path(folder) if folder else None


def has(name: str) -> bool:
    return home() is not None and (home() / name).exists()


def file(name: str) -> Path:
    """A file of the data folder."""
    if not has(name):
        raise FileNotFoundError(
            f"{name} was not found: set INFLUENCEKIT_DATA to the folder that holds it"
        )
    return home() / name


def home_of(name: str) -> Path | None:
    """The data folder, if it holds the file."""
    return file(name) and home()


@cache
def _arrays(name: str) -> dict:
    with np.load(file(name), allow_pickle=False) as found:
        return {key: found[key] for key in ("X_train", "y_train", "X_test", "y_test")}


def digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's digits, pixels from 0 to 1."""
    X, y = load_digits(return_X_y=True)
    return X / 16, y


def wine() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's wine, scaled."""
    X, y = load_wine(return_X_y=True)
    return scale(X), y


def mnist(part: str = "train", dtype=np.float32) -> tuple[np.ndarray, np.ndarray]:
    """MNIST as rows of 784 numbers from 0 to 1."""
    found = _arrays(MNIST)
    X = found[f"X_{part}"]
    return (X / 255).astype(dtype).reshape(len(X), -1), found[f"y_{part}"].astype(np.int64)


def raw(name: str, part: str = "train") -> tuple[np.ndarray, np.ndarray]:
    """Bytes and labels as they are in a file of images."""
    found = _arrays(name)
    return found[f"X_{part}"], found[f"y_{part}"]


def shrunk(images: np.ndarray, factor: int) -> np.ndarray:
    """Means of squares of pixels."""
    n, size = len(images), images.shape[1] // factor
    parts = images.reshape(n, size, factor, size, factor, *images.shape[3:])
    return parts.mean(axis=(2, 4), dtype=None if images.dtype == np.float64 else np.float32)


def small_mnist(rng, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Training images, averaged to 14 x 14, some at random."""
    X, y = raw(MNIST)
    rows = rng.choice(len(X), n, replace=False)
    return shrunk(X[rows].astype(np.float64) / 255, 2).reshape(-1, 196), y[rows]


def two_of_mnist(first: int, second: int):
    """Reader of two classes."""

    def read(rng, n: int):
        X, y = raw(MNIST)
        rows = rng.choice(np.flatnonzero(np.isin(y, [first, second])), n, replace=False)
        images = shrunk(X[rows].astype(np.float64) / 255, 2).reshape(-1, 196)
        return images, (y[rows] == second).astype(int)

    return read


def cifar2_planes(rng, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Cats and dogs at 16 x 16 pixels, some at random."""
    X, y = raw(CIFAR2)
    rows = rng.choice(len(X), n, replace=False)
    images = (X[rows].astype(np.float64) / 255 - 0.5) / 0.25
    return shrunk(images, 2).transpose(0, 3, 1, 2), y[rows]


def cifar2_16() -> tuple[np.ndarray, ...]:
    """Training and test images at 16 x 16 pixels, from -1 to 1."""
    found = []
    for part in ("train", "test"):
        X, y = raw(CIFAR2, part)
        small = (shrunk(X, 2) / 127.5 - 1).transpose(0, 3, 1, 2)
        found += [np.ascontiguousarray(small).astype(np.float32), y.astype(np.int64)]
    return tuple(found)


def cifar2_8() -> tuple[np.ndarray, np.ndarray]:
    """Training images at 8 x 8 pixels, as rows."""
    X, y = raw(CIFAR2)
    return shrunk(X, 4).reshape(-1, 192) / 127.5 - 1, y


def mnist_files() -> tuple[np.ndarray, ...]:
    return (*mnist("train"), *mnist("test"))


@cache
def acs_frame():
    """ACSIncome, California, as a DataFrame with the column y."""
    import pandas as pd

    return pd.read_csv(file(ACS))


def acs_dummies(rng, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Two scaled columns and eight of dummies, some rows at random."""
    frame = acs_frame()
    frame = frame.iloc[rng.choice(len(frame), n, replace=False)]
    numbers = StandardScaler().fit_transform(frame[NUMBERS])
    dummies = OneHotEncoder(sparse_output=False).fit_transform(frame[CODES])
    return np.hstack([numbers, dummies]), frame["y"].to_numpy()


def acs_few_codes() -> tuple[np.ndarray, np.ndarray]:
    """Three numbers and five codes as dummies, all rows."""
    frame = acs_frame()
    dummies = OneHotEncoder(sparse_output=False).fit_transform(
        frame[["COW", "MAR", "RELP", "SEX", "RAC1P"]].astype(str)
    )
    return np.hstack([frame[["AGEP", "SCHL", "WKHP"]], dummies]), frame["y"].to_numpy().astype(int)


def acs_frequent() -> tuple[np.ndarray, np.ndarray]:
    """30,000 rows, two numbers scaled, eight codes as dummies if frequent."""
    from sklearn.compose import make_column_transformer

    from influencekit.datasets import fetch_acs_income

    frame, y = fetch_acs_income("CA", data_home=home(), return_X_y=True, download_if_missing=False)
    rows = np.random.default_rng(0).choice(len(frame), min(30_000, len(frame)), replace=False)
    frame, y = frame.iloc[rows], y.iloc[rows]
    codes = [name for name in frame.columns if name not in NUMBERS]
    dummies = OneHotEncoder(
        handle_unknown="infrequent_if_exist", min_frequency=50, sparse_output=False
    )
    columns = make_column_transformer((StandardScaler(), NUMBERS), (dummies, codes))
    return columns.fit_transform(frame), y


@cache
def acs_state(state: str) -> tuple[np.ndarray, np.ndarray]:
    """6,000 rows of a state, two numbers scaled, eight codes as dummies if frequent."""
    with np.load(file(ACS_STATES), allow_pickle=False) as found:
        rows = np.flatnonzero(found["ST"] == STATES[state])
        rows = np.random.default_rng(0).choice(rows, 6000, replace=False)
        columns = {name: found[name][rows] for name in (*NUMBERS, *CODES, "y")}
    numbers = scale(np.stack([columns[name] for name in NUMBERS], axis=1).astype(float))
    dummies = OneHotEncoder(
        handle_unknown="infrequent_if_exist", min_frequency=50, sparse_output=False
    )
    codes = dummies.fit_transform(np.stack([columns[name] for name in CODES], axis=1))
    return np.hstack([numbers, codes]), columns["y"].astype(int)


def acs_one_hot(n: int):
    """The first n rows of all states, every column one-hot: sparse float32, and labels.

    Random codes for runs without the file.
    """
    codes, y = acs_codes(n)
    dummies = OneHotEncoder(
        handle_unknown="infrequent_if_exist", min_frequency=20, dtype=np.float32
    )
    return dummies.fit_transform(codes), y


def acs_codes(n: int) -> tuple[np.ndarray, np.ndarray]:
    """The first n rows of all states as whole numbers, and labels; random ones without the file."""
    names = (*NUMBERS, *CODES, "y")
    if has(ACS_STATES):
        with np.load(file(ACS_STATES), allow_pickle=False) as found:
            table = np.stack([found[name][:n].astype(np.int32) for name in names], axis=1)
    else:
        table = np.random.default_rng(0).integers(2, size=(n, len(names)), dtype=np.int32)
    return table[:, :-1], table[:, -1].astype(np.int64)


def mnist_14() -> tuple[np.ndarray, np.ndarray]:
    """8,000 training images, averaged to 14 x 14, as rows."""
    return small_mnist(np.random.RandomState(0), 8000)


def concrete(rng, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Strength of concrete, all columns scaled."""
    import pandas as pd

    values = StandardScaler().fit_transform(pd.read_csv(file(CONCRETE)).to_numpy(dtype=float))
    values = values[rng.permutation(len(values))]
    return values[:, :-1], values[:, -1:]


def sst2_frame():
    """Sentences and labels as a DataFrame."""
    import pandas as pd

    return pd.read_csv(file(SST2), sep="\t")


def sst2_parts(rng, n: int) -> tuple[np.ndarray, np.ndarray]:
    """50 components of tf-idf, some sentences at random."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    table = sst2_frame()
    table = table.iloc[rng.choice(len(table), n, replace=False)]
    text = next(c for c in table.columns if c != "label")
    words = TfidfVectorizer(sublinear_tf=True).fit_transform(table[text])
    parts = TruncatedSVD(50, random_state=0).fit_transform(words)
    return StandardScaler().fit_transform(parts), table["label"].to_numpy()


def sst2_100() -> tuple[np.ndarray, np.ndarray]:
    """100 components of tf-idf of 8,000 sentences."""
    import pandas as pd
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    frame = pd.read_csv(file(SST2), sep="\t", quoting=3).dropna().sample(8000, random_state=0)
    table = TfidfVectorizer(min_df=5, sublinear_tf=True).fit_transform(frame["sentence"])
    parts = TruncatedSVD(100, random_state=0).fit_transform(table)
    return StandardScaler().fit_transform(parts), frame["label"].to_numpy()


def passages(n: int, length: int, seed: int) -> np.ndarray:
    """Token numbers (n, length) of passages of Shakespeare."""
    from transformers import AutoTokenizer

    with gzip.open(file("tiny_shakespeare/input.txt.gz"), "rt", encoding="utf-8") as opened:
        text = opened.read()[: 6 * n * length]
    tokens = AutoTokenizer.from_pretrained(file("lm_stories260k"))(text)["input_ids"]
    rows = np.array(tokens[: len(tokens) // length * length]).reshape(-1, length)
    return rows[np.random.RandomState(seed).permutation(len(rows))[:n]]
