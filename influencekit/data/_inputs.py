"""Raw X to a source of inputs: the task's transform, then checks of what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scipy import sparse
from skorch import NeuralNet
from torch import Tensor

from influencekit.data._checks import (
    check_feature_names,
    check_leaf,
    check_n_features,
    check_same_length,
)
from influencekit.data._sources import (
    ArraySource,
    Source,
    is_dataset,
    leaves,
    map_tree,
    open_dataset,
    row_list,
)
from influencekit.exceptions import InfluenceKitWarning, warn_user
from influencekit.models import Task

__all__ = ["open_inputs", "row_labels", "uses_matrix"]

ACCEPTED = (
    "an array, DataFrame, sparse matrix or Tensor with one row an example, a tuple or dict of "
    "them, a map-style Dataset, or a DataLoader"
)


def open_inputs(task: Task, X: Any, name: str = "X") -> Source:
    """Apply the task's transform to X and open the result as a source.

    Parameters
    ----------
    task : Task
    X : object
        As in :func:`make_examples`.
    name : str, default="X"
        The argument's name in messages.

    Returns
    -------
    Source
    """
    if task.transform is not None:
        _check_transformable(X, task, name)
    if is_dataset(X):
        return open_dataset(X, name)
    if isinstance(X, (Mapping, tuple)):
        X = _without_lists(X)
    _check_kind(X, name)
    _check_features(task, X, name)
    if task.transform is not None:
        n_rows = _n_rows(X)
        X = task.transform(X)
        check_same_length({name: n_rows, f"{name} after the pipeline's steps": _n_rows(X)})
        name = f"{name} (after the pipeline's steps)"
    return ArraySource(_arrays(task, X, name))


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
    if len(found) == 2:
        first, second = found
        if len(first) == len(second) and not first.equals(second) and set(first) == set(second):
            warn_user(
                "X, y: their row labels are the same, but in another order. Rows are taken as they "
                "stand, first with first; if labels should count, give y.loc[X.index].",
                InfluenceKitWarning,
            )
    return found[0] if found else None


def _check_kind(X: Any, name: str) -> None:
    """Refuse what has no rows."""
    found = list(leaves(X)) if isinstance(X, (Mapping, tuple)) else [("", X)]
    if not found:
        raise ValueError(f"{name}: got an empty {type(X).__name__}; accepted is {ACCEPTED}.")
    for path, leaf in found:
        rows = isinstance(leaf, list) or len(getattr(leaf, "shape", ())) > 0
        if not rows:
            raise TypeError(f"{name}{path}: got {type(leaf).__name__}; accepted is {ACCEPTED}.")


def _check_transformable(X: Any, task: Task, name: str) -> None:
    if is_dataset(X) or isinstance(X, (Mapping, tuple)):
        raise TypeError(
            f"{name}: got {type(X).__name__}, but {task.name} is a Pipeline or made of trees, "
            "which take arrays. Accepted is an array, DataFrame, sparse matrix or list; or "
            "attribute a Pipeline's last step alone on data that are transformed already."
        )


def _check_features(task: Task, X: Any, name: str) -> None:
    """Compare X, before the transform, with what the model was fitted on."""
    if _n_rows(X) == 0:
        raise ValueError(f"{name}: got no rows; give at least one example.")
    if is_frame(X):
        check_feature_names(X.columns, task.feature_names_in, name, task.name)
    if not isinstance(X, (Mapping, tuple)):
        shape = X.shape if hasattr(X, "shape") else np.shape(row_list(X))
        check_n_features(tuple(shape), task.n_features_in, name, task.name)


def is_frame(X: Any) -> bool:
    """Whether X is a DataFrame, of pandas or a look-alike."""
    return hasattr(X, "columns") and hasattr(X, "to_numpy")


def _n_rows(X: Any) -> int:
    if isinstance(X, (Mapping, tuple)):
        _, X = next(leaves(X))
    return X.shape[0] if hasattr(X, "shape") else len(X)


def _arrays(task: Task, X: Any, name: str) -> Any:
    """Checked arrays, csr matrices and tensors; nothing is copied that is one already."""
    if is_frame(X) and isinstance(task.estimator, NeuralNet):
        X = {column: X[[column]] for column in X.columns}  # what skorch hands to the module
    X = _without_lists(X)
    single = not isinstance(X, (Mapping, tuple))
    tree = map_tree(lambda leaf, path: _array(leaf, name + path), X)
    for path, leaf in leaves(tree):
        check_leaf(leaf, name + path, task.dtype, single=single)
    if not single:
        check_same_length({name + path: leaf.shape[0] for path, leaf in leaves(tree)})
    return tree


def _without_lists(X: Any) -> Any:
    """Make arrays of the lists in a tuple or dict: they are rows, not further inputs."""
    if isinstance(X, Mapping):
        return {k: _without_lists(v) for k, v in X.items()}
    if isinstance(X, tuple):
        return tuple(_without_lists(v) for v in X)
    return row_list(X) if isinstance(X, list) else X


def _array(X: Any, name: str) -> Any:
    if isinstance(X, Tensor):
        if X.layout != torch.strided:
            raise TypeError(
                f"{name}: got a Tensor of layout {X.layout}; accepted are dense Tensors and "
                "scipy's sparse matrices. Use X.to_dense()."
            )
        return X
    if sparse.issparse(X):
        return X.tocsr()
    if is_frame(X):
        return _frame_values(X, name)
    return X if isinstance(X, np.ndarray) else np.asarray(X)


def _frame_values(X: Any, name: str) -> np.ndarray:
    """Values of a DataFrame whose columns are all numbers or booleans."""
    values = X.to_numpy()
    if values.dtype.kind != "O":
        return values
    bad = [column for column in X.columns if not _is_number(X[column].to_numpy())]
    if bad:
        raise TypeError(
            f"{name}: the columns {bad[:5]} hold no numbers; accepted are floats, integers and "
            "booleans. Encode them first, for instance by a Pipeline that starts with a "
            "ColumnTransformer."
        )
    return np.column_stack([np.asarray(X[column].to_numpy(), dtype=np.float64) for column in X])


def _is_number(values: np.ndarray) -> bool:
    if values.dtype.kind != "O":
        return values.dtype.kind in "fiub"
    return all(isinstance(v, (int, float, np.number, np.bool_)) for v in values.tolist())
