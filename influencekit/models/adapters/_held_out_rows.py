"""The rows that a model learned from, if it held some out for validation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from skorch.dataset import ValidSplit, get_len
from skorch.helper import predefined_split
from torch.utils.data import Dataset

from influencekit.exceptions import UnsupportedModelError

__all__ = [
    "RowFunction",
    "SkorchRows",
    "SplitRows",
    "check_seed",
    "rows_mask",
    "skorch_training_rows",
]

RowFunction = Callable[[Any, Any], np.ndarray]


class SkorchRows:
    """Rows that skorch's ``train_split`` keeps for training, from a run on row numbers.

    Parameters
    ----------
    train_split : callable
        ``train_split(dataset, y) -> dataset_train, dataset_valid``.
    """

    def __init__(self, train_split: Callable):
        self.train_split = train_split

    def __call__(self, X: Any, y: Any) -> np.ndarray:
        """Mask (n,) of the training rows."""
        y = np.asarray(y) if isinstance(y, list) else y
        n = len(y) if y is not None else get_len(X)
        numbers = _RowNumbers(n, y)
        try:
            train, _ = self.train_split(numbers) if y is None else self.train_split(numbers, y)
            rows = np.array([train[i][0] for i in range(len(train))], dtype=np.int64)
        except (AttributeError, KeyError, TypeError) as error:
            raise UnsupportedModelError(
                f"model: its train_split could not be run on row numbers ({error!r}), so its "
                f"training rows are not known. If you give only rows that it was trained on, say "
                f"so with model.set_params(train_split=None)."
            ) from error
        return rows_mask(rows, n)


class _RowNumbers(Dataset):
    """Dataset of (row number, target)."""

    def __init__(self, n: int, y: Any):
        self.n = n
        self.y = np.zeros(n) if y is None else y

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> tuple[int, Any]:
        if not 0 <= i < self.n:
            raise IndexError(i)
        return int(i), self.y.iloc[i] if hasattr(self.y, "iloc") else self.y[i]


def skorch_training_rows(train_split: Any) -> RowFunction | None:
    """Row function of a skorch ``train_split``; None if the net was trained on every row.

    Raises
    ------
    UnsupportedModelError
        If the split was drawn without a seed.
    """
    if not train_split or _is_predefined(train_split):
        return None
    if isinstance(train_split, ValidSplit):
        _check_seeded(train_split)
    return SkorchRows(train_split)


def _is_predefined(train_split: Any) -> bool:
    """Whether it is skorch's predefined_split, which uses separate validation data."""
    return isinstance(train_split, partial) and train_split.func is predefined_split(None).func


def _check_seeded(split: ValidSplit) -> None:
    cv = split.cv
    if isinstance(cv, (int, float, np.number)):
        shuffled = not float(cv).is_integer()
        seed = split.random_state
    else:
        shuffled = getattr(cv, "shuffle", hasattr(cv, "random_state"))
        seed = getattr(cv, "random_state", None)
    if shuffled and not isinstance(seed, (int, np.integer)):
        raise _seed_error("train_split", "ValidSplit(0.2, random_state=0)", "train_split=None")


def _seed_error(parameter: str, seeded: str, off: str) -> UnsupportedModelError:
    """Error for a model that drew its held-out rows without an integer seed."""
    return UnsupportedModelError(
        f"model: its {parameter} held out random rows for validation and random_state is not an "
        f"integer, so its training rows are not known. "
        f"Fit again with {seeded}; or, if you give only rows that it was trained on, say so with "
        f"model.set_params({off})."
    )


class SplitRows:
    """Training rows of a seeded scikit-learn splitter.

    Parameters
    ----------
    splitter : ShuffleSplit or StratifiedShuffleSplit
    """

    def __init__(self, splitter: Any):
        self.splitter = splitter

    def __call__(self, _X: Any, y: Any) -> np.ndarray:
        """Mask (n,) of the training rows."""
        y = np.asarray(y).reshape(len(y), -1)[:, 0]
        train, _ = next(self.splitter.split(np.zeros((len(y), 1)), y))
        return rows_mask(train, len(y))


def rows_mask(rows: np.ndarray, n: int) -> np.ndarray:
    """Mask (n,) of the given row numbers."""
    mask = np.zeros(n, dtype=bool)
    mask[rows] = True
    return mask


def check_seed(random_state: Any, name: str) -> None:
    """Refuse ``early_stopping`` whose held-out rows cannot be drawn again."""
    if not isinstance(random_state, (int, np.integer)):
        raise _seed_error("early_stopping", f"{name}(..., random_state=0)", "early_stopping=False")
