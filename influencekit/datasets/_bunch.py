"""Frames as scikit-learn's Bunch."""

from __future__ import annotations

from typing import Any

from sklearn.utils import Bunch

__all__ = ["as_bunch"]


def as_bunch(X, y, *, as_frame: bool, return_X_y: bool, **more: Any):
    """(X, y), or a Bunch with scikit-learn's names, as pandas or as arrays.

    Parameters
    ----------
    X : DataFrame
    y : Series
    as_frame, return_X_y : bool
    **more : object
        Further entries of the Bunch.
    """
    import pandas as pd

    names = {"feature_names": list(X.columns), "target_name": y.name}
    frame = pd.concat([X, y], axis=1) if as_frame else None
    data, target = (X, y) if as_frame else (X.to_numpy(dtype=float), y.to_numpy())
    if return_X_y:
        return data, target
    return Bunch(data=data, target=target, frame=frame, **names, **more)


def import_pandas(function: str):
    """Import pandas, or say how to install it."""
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError(
            f"{function} needs pandas, which is not installed. "
            "Install it with `pip install pandas`."
        ) from error
    return pd
