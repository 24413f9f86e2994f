"""Floating data in the dtype of the net that is trained on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet

__all__ = ["match_net_dtype"]


def match_net_dtype(data: Any, estimator: Any) -> Any:
    """Cast floating arrays to the dtype of a fitted skorch net, as its Task does.

    A net fitted on float32 arrays can so be retrained on the float64 array that they came
    from.  Anything but arrays, tensors and dicts or tuples of them passes through, and so does
    the data of other estimators.

    Examples
    --------
    >>> import numpy as np
    >>> match_net_dtype(np.zeros(2), "no net").dtype
    dtype('float64')
    """
    dtype = _net_dtype(estimator)
    return data if dtype is None else _cast(data, dtype)


def _net_dtype(estimator: Any) -> torch.dtype | None:
    if not isinstance(estimator, NeuralNet) or not hasattr(estimator, "module_"):
        return None
    floating = (p.dtype for p in estimator.module_.parameters() if p.is_floating_point())
    return next(floating, None)


def _cast(data: Any, dtype: torch.dtype) -> Any:
    if isinstance(data, Mapping):
        return {key: _cast(value, dtype) for key, value in data.items()}
    if isinstance(data, tuple):
        return tuple(_cast(part, dtype) for part in data)
    if isinstance(data, torch.Tensor) and data.is_floating_point():
        return data.to(dtype)
    if isinstance(data, np.ndarray) and np.issubdtype(data.dtype, np.floating):
        cast = torch.as_tensor(data).to(dtype)
        return cast if dtype == torch.bfloat16 else cast.numpy()  # numpy has no bfloat16
    return data
