"""Adapters from the fitted models of each library to Tasks."""

from influencekit.models.adapters import (  # noqa: F401  each registers as_task
    _glm,
    _kernel_ridge,
    _linear,
    _margin,
    _mlp,
    _sgd,
    _skorch,
    _torch,
    _trainer,
    _transformers,
    _wrappers,
)
from influencekit.models.adapters.meta import (  # noqa: F401
    _calibrated,
    _columns,
    _selected,
    _target,
    _thresholds,
    _vote,
)
