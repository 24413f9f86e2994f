"""Measures of attribution quality: arrays in, numbers out."""

from influencekit.metrics._agreement import AgreementResult, attribution_agreement
from influencekit.metrics._correlation import LDSResult, UndefinedCorrelationWarning
from influencekit.metrics._lds import (
    NoiseCeiling,
    PreparedOutputs,
    lds_from_subset_sums,
    leave_one_out_correlation,
    linear_datamodeling_score,
    noise_ceiling,
)
from influencekit.metrics._population import (
    PopulationMoments,
    enumerate_subsets,
    population_moments,
    population_pearson_lds,
    population_pearson_lds_by_enumeration,
)
from influencekit.metrics._seed_curve import SeedCurve, agreement_by_seeds

__all__ = [
    "AgreementResult",
    "LDSResult",
    "NoiseCeiling",
    "PopulationMoments",
    "PreparedOutputs",
    "SeedCurve",
    "UndefinedCorrelationWarning",
    "agreement_by_seeds",
    "attribution_agreement",
    "enumerate_subsets",
    "lds_from_subset_sums",
    "leave_one_out_correlation",
    "linear_datamodeling_score",
    "noise_ceiling",
    "population_moments",
    "population_pearson_lds",
    "population_pearson_lds_by_enumeration",
]
