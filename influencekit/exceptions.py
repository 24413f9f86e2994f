"""Warnings and errors, each with the paragraph that a user needs."""

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from contextvars import ContextVar

from sklearn.exceptions import ConvergenceWarning as _ConvergenceWarning

__all__ = [
    "ConvergenceWarning",
    "HeldOutRowsWarning",
    "InfluenceKitWarning",
    "LambdaPathWarning",
    "NegativeCurvatureWarning",
    "NotStationaryWarning",
    "ProjectionWarning",
    "ResourceError",
    "SampledRowsWarning",
    "TrajectoryError",
    "UnsupportedModelError",
]


class InfluenceKitWarning(UserWarning):
    """Parent of every warning of this package, so that one filter silences all."""


class NotStationaryWarning(InfluenceKitWarning):
    """The model's training gradient is far from zero.

    Influence functions linearize around a stationary point.  A network stopped early, or a
    model whose training used weights that the attributor does not know, is not at one.
    Scores remain useful as rankings; their size is then not that of leave-one-out.
    """


class HeldOutRowsWarning(InfluenceKitWarning):
    """Some rows given as training data were held out when the model was trained.

    skorch's default ``train_split`` and scikit-learn's ``early_stopping=True`` keep rows
    apart for validation.  The model never learned from them, so their score is 0.
    """


class SampledRowsWarning(InfluenceKitWarning):
    """Each tree was fitted to rows that the model does not tell.

    XGBoost and LightGBM with ``subsample`` below 1.  The leaf values are then taken as they are,
    and every row counts in every tree by its share: scores are means over such draws.
    """


class LambdaPathWarning(InfluenceKitWarning):
    """The surrogate indicator's path does not determine the damping clearly.

    Its mean never crosses the threshold on the grid, or crosses it more than once.
    Look at the path with ``LambdaPathDisplay`` and widen ``dampings``.
    """


class ProjectionWarning(InfluenceKitWarning):
    """Gradients were projected although no projection was asked for.

    The exact curvature would have cost more time or memory than allowed; the message has
    the numbers.  Set ``projection_dim`` to choose the size yourself.
    """


class ConvergenceWarning(InfluenceKitWarning, _ConvergenceWarning):
    """A linear system was left before its residual was as small as asked for.

    The message says how many systems and how far.  Allow more iterations, a larger damping
    (which makes systems easier), or a preconditioner.
    """


class NegativeCurvatureWarning(InfluenceKitWarning):
    """The Hessian has directions of negative curvature, which are left out.

    A network that is not at a minimum has them.  Fitting ``Hessian()`` warns how many they are and
    drops them; ``Hessian(negative="keep")`` warns where the damping does not lift them above zero.
    Take a larger damping there, or the Gauss-Newton matrix, which has none.
    """


class ResourceError(MemoryError):
    """The work would need more memory than ``max_memory``; nothing was started."""


class UnsupportedModelError(TypeError):
    """The model's training objective cannot be carried into a Task; the message says why."""


class TrajectoryError(ValueError):
    """A recorded training run cannot be replayed, or is not that of the model or data given."""


#: Folders of this package and of those that may stand between it and the user's line.
_NOT_THE_USERS = tuple(
    f"{os.sep}{name}{os.sep}"
    for name in ("influencekit", "sklearn", "skorch", "torch", "joblib", "optuna")
)
_HERE = os.path.dirname(__file__) + os.sep


#: Warnings that are being collected in this thread.
_COLLECTED: ContextVar[list[tuple[str, type[Warning]]] | None] = ContextVar(
    "warnings", default=None
)


def warn_user(message: str, category: type[Warning]) -> None:
    """Warn at the user's line: the nearest one that called into this package.

    Parameters
    ----------
    message : str
    category : type of Warning
    """
    found = _COLLECTED.get()
    if found is not None:
        found.append((message, category))
        return
    level, frame = 1, sys._getframe()  # noqa: SLF001  no other way to where the user calls
    while frame.f_back is not None and _is_inside(frame.f_code.co_filename):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


@contextlib.contextmanager
def collected_warnings() -> Iterator[list[tuple[str, type[Warning]]]]:
    """Collect what :func:`warn_user` is told in this thread, in place of warning.

    Yields
    ------
    list of (message, category)
    """
    collected: list[tuple[str, type[Warning]]] = []
    token = _COLLECTED.set(collected)
    try:
        yield collected
    finally:
        _COLLECTED.reset(token)


def _is_inside(file: str) -> bool:
    if file.startswith(_HERE) or file == contextlib.__file__:  # it stands around public methods
        return True
    _, found, inner = file.rpartition(f"{os.sep}site-packages")
    return bool(found) and inner.startswith(_NOT_THE_USERS)
