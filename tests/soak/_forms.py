"""The same examples as arrays, frames, sparse matrices, Tensors and Datasets."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from torch.utils.data import DataLoader, TensorDataset


def _narrow(X, y):
    return (X.astype(np.float32) if X.dtype.kind == "f" else X.astype(np.int32)), y


def _strided(X, y):
    return np.repeat(X, 2, axis=0)[::2], np.repeat(y, 2, axis=0)[::2]


def _frame(X, y):
    index = pd.Index([f"row {i}" for i in range(len(X))])
    return pd.DataFrame(X, index, [f"c{i}" for i in range(X.shape[1])]), y


def _dataset(X, y):
    return TensorDataset(torch.tensor(X), torch.tensor(y)), None


FORMS = {
    "float32": _narrow,
    "Fortran order": lambda X, y: (np.asfortranarray(X), y),
    "strided": _strided,
    "backwards": lambda X, y: (X[::-1].copy()[::-1], y[::-1].copy()[::-1]),
    "read-only": lambda X, y: (_read_only(X), _read_only(y)),
    "list": lambda X, y: (X.tolist(), y),
    "Tensor": lambda X, y: (torch.tensor(X), torch.tensor(y)),
    "Dataset": _dataset,
    "DataLoader": lambda X, y: (DataLoader(_dataset(X, y)[0], batch_size=4), None),
    "frame": _frame,
    "csr": lambda X, y: (sparse.csr_matrix(X), y),
    "csc": lambda X, y: (sparse.csc_array(X), y),
}
#: Forms of tables only.
TABLES = {"frame", "csr", "csc"}


def _read_only(array):
    array = array.copy()
    array.setflags(write=False)
    return array


def forms_for(problem) -> list[str]:
    """Names of the forms that a problem's inputs can take."""
    table = problem.X.ndim == 2 and problem.X.dtype.kind == "f"
    return [name for name in FORMS if table or name not in TABLES]
