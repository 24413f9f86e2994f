"""The one file that touches scikit-learn's private side."""

from __future__ import annotations

from typing import Any

from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    StrOptions,
    validate_parameter_constraints,
)
from sklearn.utils._set_output import _get_output_config, _SetOutputMixin

__all__ = ["HasMethods", "Interval", "OutputContainerMixin", "StrOptions", "validate_parameters"]


class OutputContainerMixin(_SetOutputMixin):
    """``set_output(transform="pandas")`` for whatever has transform and feature names out."""

    def _with_index(self, scores: Any, index: Any) -> Any:
        """Scores as a DataFrame with the given index, where pandas output is asked for.

        scikit-learn labels the rows as those of X itself; this is for other labels.
        """
        if _get_output_config("transform", self)["dense"] != "pandas":
            return scores
        import pandas as pd

        return pd.DataFrame(scores, index=index)


def validate_parameters(estimator) -> None:
    """Check an estimator's constructor parameters against its ``_parameter_constraints``.

    Parameters
    ----------
    estimator : BaseEstimator

    Raises
    ------
    sklearn.utils._param_validation.InvalidParameterError
        A ValueError that names the parameter, what was got and what is accepted.
    """
    validate_parameter_constraints(
        estimator._parameter_constraints,
        estimator.get_params(deep=False),
        caller_name=type(estimator).__name__,
    )
