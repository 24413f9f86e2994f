"""Raw X to a source of inputs: the task's transform, then checks of the result."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from scipy import sparse
from skorch import NeuralNet
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from influencekit.data._datasets import open_dataset
from influencekit.data._missing import as_floats
from influencekit.data._sources import (
    ArraySource,
    Source,
    check_dtype,
    check_finite,
    check_tensor,
    kind_of,
    leaves,
    map_tree,
    stacked,
)
from influencekit.exceptions import InfluenceKitWarning, warn_user
from influencekit.models._task import Task
from influencekit.utils._arguments import refuse_masked
from influencekit.utils._suggest import did_you_mean

__all__ = ["check_same_length", "open_inputs", "row_labels", "uses_matrix"]

ACCEPTED = (
    "an array, DataFrame, sparse matrix or Tensor with one row for each example, a tuple or dict "
    "of them, a map-style Dataset, or a DataLoader"
)


def open_inputs(task: Task, X: Any, name: str = "X", learned_y: Any = None) -> Source:
    """Apply the task's transform to X and open the result as a source.

    Parameters
    ----------
    task : Task
    X : object
        Data as in :func:`make_examples`.
    name : str, default="X"
        The argument's name in messages.
    learned_y : array-like or None, default=None
        Targets of X, if these are the rows that the model learned from: X is then opened as the
        model's last step saw it.

    Returns
    -------
    Source
    """
    for path, leaf in leaves(X) if isinstance(X, (Mapping, tuple)) else [("", X)]:
        if isinstance(leaf, np.ma.MaskedArray):
            refuse_masked(name + path, leaf)
    if task.transform is not None:
        _check_transformable(X, task, name)
    if _is_dataset(X) or (task.transform is None and is_rows_of_dicts(X)):
        return open_dataset(task, X, name)
    if isinstance(X, (Mapping, tuple)):
        X = _without_lists(X, name)
    for path, leaf in leaves(X) if isinstance(X, (Mapping, tuple)) else [("", X)]:
        check_tensor(leaf, name + path)
    _check_kind(X, name)
    if _n_rows(X) == 0:
        raise ValueError(f"{name}: got no rows; give at least one example.")
    if task.transform is None:
        _check_features(task, X, name)
    else:
        n_rows = _n_rows(X)
        X = _transformed(task, X, name, learned_y)
        check_same_length({name: n_rows, f"{name} after the pipeline's steps": _n_rows(X)})
        name = f"{name} (after the pipeline's steps)"
    return ArraySource(_arrays(task, X, name))


def _transformed(task: Task, X: Any, name: str, learned_y: Any) -> Any:
    """X after the pipeline's steps; the first step decides which columns it needs."""
    transform: Any = task.transform
    try:
        if learned_y is not None and hasattr(transform, "of_training_rows"):
            return transform.of_training_rows(X, learned_y)
        return transform(X)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        try:
            _check_features(task, X, name)
        except ValueError as other:
            raise ValueError(
                f"{str(other).partition('. ')[0]}. The error of the step that uses them: {error}. "
                f"Give "
                "the columns that it was fitted on."
            ) from error
        raise


def uses_matrix(task: Task) -> bool:
    """Whether the model is scikit-learn's own, which reads all features as one float matrix."""
    rooms = [kind.__module__.split(".")[:2] for kind in type(task.estimator).__mro__]
    return any(r[0] == "sklearn" and r[1] not in ("base", "utils") for r in rooms)


def row_labels(X: Any, y: Any) -> Any:
    """Index of a DataFrame or Series X, else of y, else None.

    Warns
    -----
    InfluenceKitWarning
        If X and y have the same labels in another order.
    """
    found = [data.index for data in (X, y) if hasattr(data, "iloc")]
    compare_row_labels(X=X, y=y)
    return found[0] if found else None


def compare_row_labels(**data: Any) -> None:
    """Warn of arguments with the same row labels as the first one, in another order.

    Parameters
    ----------
    **data : array-like
        Arguments by name; those without row labels are ignored.
    """
    labeled = {name: rows.index for name, rows in data.items() if hasattr(rows, "iloc")}
    for (one, first), (other, second) in pairwise(labeled.items()):
        if len(first) == len(second) and not first.equals(second) and set(first) == set(second):
            warn_user(
                f"{one}, {other}: their row labels are the same, but in another order. Rows are "
                f"matched by position, not by label. To match by label, give "
                f"{other}.loc[{one}.index].",
                InfluenceKitWarning,
            )


def _check_kind(X: Any, name: str) -> None:
    """Refuse data without rows."""
    found = list(leaves(X)) if isinstance(X, (Mapping, tuple)) else [("", X)]
    if not found:
        raise ValueError(f"{name}: got an empty {type(X).__name__}; accepted is {ACCEPTED}.")
    for path, leaf in found:
        rows = isinstance(leaf, list) or len(getattr(leaf, "shape", ())) > 0
        if not rows:
            raise TypeError(f"{name}{path}: got {type(leaf).__name__}; accepted is {ACCEPTED}.")


def _check_transformable(X: Any, task: Task, name: str) -> None:
    if _is_dataset(X) or isinstance(X, (Mapping, tuple)):
        raise TypeError(
            f"{name}: got {type(X).__name__}, but {task.name} is a Pipeline or made of trees, "
            f"which need arrays. Accepted is an array, DataFrame, sparse matrix or list; or "
            f"attribute only a Pipeline's last step, on data that are already transformed."
        )


def _check_features(task: Task, X: Any, name: str) -> None:
    """Compare the features of X with those that the model was fitted on."""
    if is_frame(X):
        _check_feature_names(X.columns, task.feature_names_in, name, task.name)
    if not isinstance(X, (Mapping, tuple)):
        shape = X.shape if hasattr(X, "shape") else np.shape(stacked(X, name))
        _check_n_features(tuple(shape), task.n_features_in, name, task.name)


def _is_dataset(X: Any) -> bool:
    """Whether X is a Dataset or DataLoader (of torch, or a look-alike such as Hugging Face's)."""
    return isinstance(X, (Dataset, DataLoader)) or hasattr(X, "__getitems__")


def is_rows_of_dicts(X: Any) -> bool:
    """Whether X is a list of examples that are dicts: a Dataset in memory.

    Parameters
    ----------
    X : object

    Returns
    -------
    bool
    """
    return isinstance(X, list) and bool(X) and all(isinstance(row, Mapping) for row in X)


def is_frame(X: Any) -> bool:
    """Whether X is a DataFrame of pandas or of a similar library."""
    return hasattr(X, "columns") and hasattr(X, "to_numpy")


def _n_rows(X: Any) -> int:
    if isinstance(X, (Mapping, tuple)):
        _, X = next(leaves(X))
    return X.shape[0] if hasattr(X, "shape") else len(X)


def _arrays(task: Task, X: Any, name: str) -> Any:
    """Checked arrays, csr matrices and tensors; these are not copied if given as such."""
    if is_frame(X) and isinstance(task.estimator, NeuralNet):
        X = {column: X[[column]] for column in X.columns}  # what skorch passes to the module
    X = _without_lists(X, name)
    single = not isinstance(X, (Mapping, tuple))
    X = _numbers(X) if single and uses_matrix(task) else X
    tree = map_tree(lambda leaf, path: _array(leaf, name + path), X)
    for path, leaf in leaves(tree):
        _check_leaf(leaf, name + path, task.input_dtype, single=single)
    if not single:
        check_rows_of_parts({name + path: leaf.shape[0] for path, leaf in leaves(tree)})
    return tree


def _without_lists(X: Any, name: str) -> Any:
    """Convert the lists in a tuple or dict to arrays: they are rows, not further inputs."""
    if isinstance(X, Mapping):
        return {k: _without_lists(v, f"{name}[{k!r}]") for k, v in X.items()}
    if isinstance(X, tuple):
        return tuple(_without_lists(v, f"{name}[{i}]") for i, v in enumerate(X))
    return stacked(X, name) if isinstance(X, list) else X


def _array(X: Any, name: str) -> Any:
    if isinstance(X, Tensor):
        return X
    if sparse.issparse(X):
        return X.tocsr()
    if is_frame(X):
        return _frame_values(X, name)
    array = X if isinstance(X, np.ndarray) else np.asarray(X)
    several = (np.ndarray, list, Tensor)
    if array.ndim == 1 and array.dtype == object and isinstance(array[0], several):
        return stacked(list(array), name)
    return array


def _numbers(X: Any) -> Any:
    """X as scikit-learn reads it: an array of objects becomes floats if all are numbers."""
    values = X.to_numpy() if is_frame(X) else X
    if not isinstance(values, np.ndarray) or values.dtype.kind != "O":
        return X
    try:
        return values.astype(np.float64)
    except (TypeError, ValueError):
        return X


def _frame_values(X: Any, name: str) -> np.ndarray:
    """Values of a DataFrame whose columns are all numbers or booleans."""
    values = X.to_numpy()
    if values.dtype.kind != "O":
        return values
    columns = {column: as_floats(X[column].to_numpy()) for column in X.columns}
    bad = [column for column, own in columns.items() if not _is_number(own)]
    if bad:
        raise TypeError(
            f"{name}: the columns {bad[:5]} are not numeric; accepted are floats, integers and "
            "booleans. Encode them first, for instance with a Pipeline that starts with a "
            "ColumnTransformer."
        )
    return np.column_stack([np.asarray(own, dtype=np.float64) for own in columns.values()])


def _is_number(values: np.ndarray) -> bool:
    if values.dtype.kind != "O":
        return values.dtype.kind in "fiub"
    return all(isinstance(v, (int, float, np.number, np.bool_)) for v in values.tolist())


def _check_leaf(leaf: Any, name: str, dtype: torch.dtype, *, single: bool) -> None:
    """Check shape, dtype and values of one array of inputs."""
    check_dtype(leaf, name)
    if leaf.shape[0] == 0:
        raise ValueError(f"{name}: got no rows (shape {tuple(leaf.shape)}); give at least one.")
    if 0 in leaf.shape:
        raise ValueError(f"{name}: got shape {tuple(leaf.shape)}; no axis may be empty.")
    if single and leaf.ndim == 1 and kind_of(leaf) == "f":
        raise _one_dimensional(name, leaf.shape)
    check_finite(leaf, name, dtype)


def _one_dimensional(name: str, shape: tuple) -> ValueError:
    """Error for a one-dimensional X."""
    return ValueError(
        f"{name}: got a one-dimensional array of shape {tuple(shape)}; accepted is (n_examples, "
        f"n_features). Use np.reshape({name}, (-1, 1)) for one feature, np.reshape({name}, "
        f"(1, -1)) for one example, or {name}.iloc[[i]] for row i of a DataFrame."
    )


def _check_n_features(shape: tuple, expected: int | None, name: str, model: str) -> None:
    """Refuse a number of features other than in the fit of the model."""
    if expected is None:
        return
    if len(shape) == 1:
        raise _one_dimensional(name, shape)
    if shape[1] != expected:
        raise ValueError(
            f"{name}: got {shape[1]} features; {model} was fitted with {expected}. Give the "
            "same columns as in fit."
        )


def _check_feature_names(columns: Any, expected: Any, name: str, model: str) -> None:
    """Refuse a DataFrame with other columns, or another order of columns, than in fit."""
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
        f"{did_you_mean(extra[0], missing) if extra else ''}"
    )


def _some(names: list) -> str:
    shown = ", ".join(repr(n) for n in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def check_sample_weight(sample_weight: Any, n: int) -> np.ndarray:
    """Weights of n examples as float64 numbers.

    Parameters
    ----------
    sample_weight : array-like of shape (n,)
    n : int

    Returns
    -------
    ndarray of shape (n,)

    Raises
    ------
    ValueError
        If they are not one finite number of at least 0 for each example, or all are 0.
    """
    refuse_masked("sample_weight", sample_weight)
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
            f"for {n:,} examples; accepted is one finite number for each, not negative and not "
            f"all zero: the weights that the model was fitted with."
        )
    return weights


def check_rows_of_parts(lengths: dict[str, int]) -> None:
    """Refuse several inputs with different numbers of rows."""
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{name} has {n}" for name, n in lengths.items())
        raise ValueError(
            f"Different numbers of rows: {said}. Accepted are inputs with a row for each example. "
            "Inputs that all examples share (words that offsets divide into bags, the edges of "
            "graphs) belong to no row: give padded rows, for instance (n, k) indices and "
            "nn.EmbeddingBag(..., padding_idx=0)."
        )


def check_same_length(lengths: dict[str, int]) -> None:
    """Refuse arguments with different numbers of examples."""
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{name} has {n}" for name, n in lengths.items())
        raise ValueError(
            f"Different numbers of examples: {said}. Accepted are arguments with the same "
            "number of rows; check whether only one of them was filtered or split."
        )
