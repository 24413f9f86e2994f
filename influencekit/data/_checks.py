"""Checks at the border: each error says which argument, what came, what is accepted, what to do."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    IterableDataset,
    RandomSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from influencekit.utils import chunks

__all__ = [
    "check_dtype",
    "check_feature_names",
    "check_finite",
    "check_leaf",
    "check_loader",
    "check_map_style",
    "check_n_features",
    "check_same_length",
    "check_sample_weight",
    "given_twice",
    "one_dimensional",
]

#: number of values looked at together when an array is searched for NaN
BLOCK = 2**22


def check_leaf(leaf: Any, name: str, dtype: torch.dtype, *, single: bool) -> None:
    """Check shape, dtype and values of one array of inputs."""
    check_dtype(leaf, name)
    if leaf.shape[0] == 0:
        raise ValueError(f"{name}: got no rows (shape {tuple(leaf.shape)}); give at least one.")
    if 0 in leaf.shape:
        raise ValueError(f"{name}: got shape {tuple(leaf.shape)}; no axis may be empty.")
    if single and leaf.ndim == 1 and _kind(leaf) == "f":
        raise one_dimensional(name, leaf.shape)
    check_finite(leaf, name, dtype)


def one_dimensional(name: str, shape: tuple) -> ValueError:
    """Error for a one-dimensional X."""
    return ValueError(
        f"{name}: got a one-dimensional array of shape {tuple(shape)}; accepted is (n_examples, "
        f"n_features). Use np.reshape({name}, (-1, 1)) for one feature, np.reshape({name}, "
        f"(1, -1)) for one example, or {name}.iloc[[i]] for row i of a DataFrame."
    )


def check_dtype(leaf: Any, name: str) -> None:
    """Refuse text, objects, dates and complex numbers."""
    kind = _kind(leaf)
    if kind == "c":
        raise ValueError(
            f"{name}: got complex numbers ({leaf.dtype}); accepted are real ones. Give the real "
            "and imaginary parts as separate features."
        )
    if kind not in "fiub":
        raise TypeError(
            f"{name}: got dtype {leaf.dtype}; accepted are floats, integers and booleans. Encode "
            "text and categories as numbers first, for instance by a Pipeline whose first step "
            "is a OneHotEncoder or TfidfVectorizer."
        )


def check_finite(leaf: Any, name: str, dtype: torch.dtype | None = None) -> None:
    """Refuse NaN and infinity, also those that casting to ``dtype`` would make.

    Arrays are read in blocks, so a memmap stays on disk.
    """
    if _kind(leaf) != "f":
        return
    if sparse.issparse(leaf):
        leaf = leaf.data
    for rows in chunks(leaf.shape[0], int(np.prod(leaf.shape[1:])), BLOCK):
        block = leaf[rows]
        finite = torch.isfinite(block) if isinstance(block, Tensor) else np.isfinite(block)
        if not bool(finite.all()):
            raise ValueError(
                f"{name}: got NaN or infinity; accepted are finite numbers. Impute or drop those "
                "rows, for instance by a Pipeline that starts with SimpleImputer."
            )
        if dtype is not None and float(abs(block).max()) > torch.finfo(dtype).max:
            raise ValueError(
                f"{name}: got {float(abs(block).max()):.3g}, which is infinity in the model's "
                f"dtype {dtype}. Rescale the feature, or turn the model to torch.float64."
            )


def check_same_length(lengths: dict[str, int]) -> None:
    """Refuse arguments that differ in their number of examples."""
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{name} has {n}" for name, n in lengths.items())
        raise ValueError(
            f"Different numbers of examples: {said}. Accepted are arguments with the same "
            "number of rows; look whether one of them was filtered or split alone."
        )


def check_sample_weight(sample_weight: Any, n: int) -> np.ndarray:
    """Weights of n examples as float64 numbers.

    Raises
    ------
    ValueError
        If they are not one finite number from 0 on for each, or all 0.
    """
    try:
        values = (
            sample_weight.numpy(force=True) if isinstance(sample_weight, Tensor) else sample_weight
        )
        weights = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        weights = np.full(0, np.nan)
    fine = weights.shape == (n,) and np.isfinite(weights).all() and (weights >= 0).all()
    if not fine or not weights.any():
        raise ValueError(
            f"sample_weight: got {type(sample_weight).__name__} of shape {np.shape(sample_weight)} "
            f"for {n:,} examples; accepted is one finite number from 0 on for each, not all 0: "
            "those that the model was fitted with."
        )
    return weights


def given_twice(name: str, y_name: str) -> ValueError:
    """Error for targets that come both as an argument and with the data."""
    return ValueError(
        f"{y_name}: targets were given twice, in {y_name} and by the data in {name}. Leave "
        f"{y_name} out, or give a Dataset that yields inputs only (several inputs go in one "
        "tuple: ((x1, x2),))."
    )


def check_n_features(shape: tuple, expected: int | None, name: str, model: str) -> None:
    """Refuse another number of features than the model was fitted with."""
    if expected is None:
        return
    if len(shape) == 1:
        raise one_dimensional(name, shape)
    if shape[1] != expected:
        raise ValueError(
            f"{name}: got {shape[1]} features; {model} was fitted with {expected}. Give the "
            "same columns as in fit."
        )


def check_feature_names(columns: Any, expected: Any, name: str, model: str) -> None:
    """Refuse a DataFrame whose columns are others, or in another order, than in fit."""
    if expected is None:
        return
    got, wanted = list(columns), list(expected)
    if got == wanted:
        return
    missing = [c for c in wanted if c not in set(got)]
    extra = [c for c in got if c not in set(wanted)]
    found = [f"missing {_some(missing)}"] if missing else []
    found += [f"unknown {_some(extra)}"] if extra else []
    what = "; ".join(found) or "the same columns in another order"
    raise ValueError(
        f"{name}: got columns that differ from those {model} was fitted with: {what}. "
        f"Select them in order: {name}[model.feature_names_in_]."
    )


def check_map_style(dataset: Any, name: str) -> None:
    """Refuse a Dataset that cannot be read by position."""
    if isinstance(dataset, IterableDataset):
        raise TypeError(
            f"{name}: got an IterableDataset ({type(dataset).__name__}), whose examples have no "
            "fixed position, so a score could not say which one it belongs to. Accepted is a "
            "map-style Dataset (with __getitem__ and __len__); collect the stream into one: "
            "list(dataset)."
        )
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise TypeError(
            f"{name}: {type(dataset).__name__} lacks __len__ or __getitem__; accepted is a "
            "map-style Dataset, which has both."
        )
    if len(dataset) == 0:
        raise ValueError(f"{name}: got an empty {type(dataset).__name__}; give at least one row.")


def check_loader(loader: DataLoader, name: str) -> None:
    """Refuse a DataLoader that does not show each example of its dataset once."""
    if loader.batch_size is None and loader.batch_sampler is None:
        raise ValueError(
            f"{name}: got a DataLoader with batch_size=None, whose dataset makes its own batches; "
            "accepted is one that batches single examples. Give batch_size, or pass arrays."
        )
    sampler = loader.sampler
    partial = isinstance(sampler, (SubsetRandomSampler, WeightedRandomSampler))
    if isinstance(sampler, RandomSampler):
        size = len(loader.dataset)  # type: ignore[arg-type]
        partial = sampler.replacement or sampler.num_samples != size
    elif not partial and hasattr(sampler, "__len__"):
        partial = len(sampler) != len(loader.dataset)  # type: ignore[arg-type]
    if partial:
        raise ValueError(
            f"{name}: got a DataLoader with a {type(sampler).__name__} that does not show every "
            "example once; accepted is shuffle=True or False. Name the examples instead: "
            "DataLoader(torch.utils.data.Subset(dataset, rows))."
        )


def _kind(leaf: Any) -> str:
    """Kind of a dtype as numpy writes it: f, i, b, c, or others."""
    if not isinstance(leaf, Tensor):
        return leaf.dtype.kind
    if leaf.is_complex():
        return "c"
    if leaf.is_floating_point():
        return "f"
    return "b" if leaf.dtype == torch.bool else "i"


def _some(names: list) -> str:
    shown = ", ".join(repr(n) for n in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
