"""The one file that touches scikit-learn's private side."""

from __future__ import annotations

from typing import Any

from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    InvalidParameterError,
    StrOptions,
    validate_parameter_constraints,
)
from sklearn.utils._set_output import _get_output_config, _SetOutputMixin

from influencekit.utils._suggest import did_you_mean

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
        A ValueError that names the parameter, what was got, what is accepted, and the accepted
        word that is closest to a misspelt one.
    """
    caller = type(estimator).__name__
    for name, value in estimator.get_params(deep=False).items():
        accepted = estimator._parameter_constraints.get(name, "no_validation")
        try:
            validate_parameter_constraints({name: accepted}, {name: value}, caller_name=caller)
        except InvalidParameterError as error:
            choices = [one.options for one in accepted if isinstance(one, StrOptions)]
            hint = did_you_mean(value, sorted(set().union(*choices)))
            if not hint:
                raise
            raise InvalidParameterError(f"{error}{hint}") from None
