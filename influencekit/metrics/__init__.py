"""Measures of attribution quality: arrays in, numbers out."""

from influencekit.metrics._agreement import AgreementResult, attribution_agreement
from influencekit.metrics._correlation import LDSResult, UndefinedCorrelationWarning
from influencekit.metrics._lds import (
    NoiseCeiling,
    leave_one_out_correlation,
    linear_datamodeling_score,
    noise_ceiling,
)
from influencekit.metrics._population import (
    PopulationMoments,
    population_moments,
    population_pearson_lds,
)
from influencekit.metrics._seed_curve import SeedCurve, agreement_by_seeds

__all__ = [
    "AgreementResult",
    "LDSResult",
    "NoiseCeiling",
    "PopulationMoments",
    "SeedCurve",
    "UndefinedCorrelationWarning",
    "agreement_by_seeds",
    "attribution_agreement",
    "leave_one_out_correlation",
    "linear_datamodeling_score",
    "noise_ceiling",
    "population_moments",
    "population_pearson_lds",
]
