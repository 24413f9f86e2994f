"""Measures of attribution quality: arrays in, numbers out."""

from influencekit.metrics._agreement import attribution_agreement
from influencekit.metrics._correlation import UndefinedCorrelationWarning
from influencekit.metrics._lds import (
    PreparedOutputs,
    leave_one_out_correlation,
    linear_datamodeling_score,
    noise_ceiling,
)
from influencekit.metrics._seed_curve import agreement_by_seeds

__all__ = [
    "PreparedOutputs",
    "UndefinedCorrelationWarning",
    "agreement_by_seeds",
    "attribution_agreement",
    "leave_one_out_correlation",
    "linear_datamodeling_score",
    "noise_ceiling",
]
