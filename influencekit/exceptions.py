"""Warnings and errors, each with what a user needs to know."""

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
    "LeverageWarning",
    "LostWorkersError",
    "NegativeCurvatureWarning",
    "NotStationaryWarning",
    "ProjectionWarning",
    "ResourceError",
    "SampledRowsWarning",
    "TrajectoryError",
    "UnsupportedModelError",
    "VersionWarning",
]


class InfluenceKitWarning(UserWarning):
    """Parent of every warning of this package, so that one filter silences all."""


class NotStationaryWarning(InfluenceKitWarning):
    """The model's training gradient is far from zero.

    Influence functions linearize around a stationary point. A network that was stopped early is not
    at one, nor is a model trained with weights that the attributor was not given. The ranking of
    the scores remains useful, but their size does not match leave-one-out effects.
    """


class HeldOutRowsWarning(InfluenceKitWarning):
    """Some rows given as training data were held out when the model was trained.

    skorch's default ``train_split`` and scikit-learn's ``early_stopping=True`` hold rows out for
    validation. The model never learned from them, so their score is 0.
    """


class SampledRowsWarning(InfluenceKitWarning):
    """Each tree was fitted to sampled rows, and the model does not record which ones.

    This concerns XGBoost and LightGBM with ``subsample`` below 1. The model's own leaf values are
    then used, and every row counts in every tree with the sampling rate as its weight: scores are
    averages over possible samples.
    """


class LeverageWarning(InfluenceKitWarning):
    """Some training rows have a leverage above one half.

    A linear model nearly follows such a row: it is alone in its level, far from the others, or
    there are about as many columns as rows. What the model would be without it is then more than
    twice as far away as first-order scores say; at a leverage of 1 they are 0 whatever it does.
    ``InfluenceFunction(removal_order="newton")`` and ``predict_without`` follow the whole way.
    """


class LambdaPathWarning(InfluenceKitWarning):
    """The surrogate indicator's path does not determine the damping clearly.

    Its mean never crosses the threshold on the grid, or crosses it more than once.
    Look at the path with ``LambdaPathDisplay`` and widen ``dampings``.
    """


class ProjectionWarning(InfluenceKitWarning):
    """Gradients were projected although you did not ask for a projection.

    The exact curvature would have cost more time or memory than allowed; the message has
    the numbers.  Set ``projection_dim`` to choose the size yourself.
    """


class ConvergenceWarning(InfluenceKitWarning, _ConvergenceWarning):
    """A linear solver stopped before its residual reached the tolerance.

    The message says how many systems, and how large their residuals are. Allow more iterations, use
    a larger damping (which makes the systems easier), or a preconditioner.
    """


class NegativeCurvatureWarning(InfluenceKitWarning):
    """The Hessian has directions of negative curvature, which are left out.

    A network that is not at a minimum has directions of negative curvature.  Fitting ``Hessian()``
    warns with their number; ``Hessian(negative="keep")`` warns if the damping does not lift them
    above zero.  Use a larger damping there, or the Gauss-Newton matrix, which has none.
    """


class VersionWarning(InfluenceKitWarning):
    """Another version of a library wrote the folder that is read.

    What a saved attributor or an index holds may mean something else in this version. Compare some
    scores with those of the version that wrote it, or write it again.
    """


class ResourceError(MemoryError):
    """The work would need more memory than ``max_memory``; it was not started."""


class LostWorkersError(RuntimeError):
    """Worker processes, or the scheduler of their cluster, were lost before the work was done.

    Slices whose worker was killed are done again; this is raised where that does not help.
    What was finished stays in its folder: the same call goes on, and ends with the same bytes.
    """


class UnsupportedModelError(TypeError):
    """The model's training objective cannot be carried into a Task; the message says why."""


class TrajectoryError(ValueError):
    """A recorded training run cannot be replayed, or does not belong to the given model or data."""


#: Folders of this package and of packages that may be between it and the user's line.
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
    """Collect the messages of :func:`warn_user` in this thread instead of warning.

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
    if file.startswith(_HERE) or file == contextlib.__file__:  # it wraps public methods
        return True
    _, found, inner = file.rpartition(f"{os.sep}site-packages")
    return bool(found) and inner.startswith(_NOT_THE_USERS)
