"""The public checks on values whose many trainings take minutes; the others are in test_common."""

import pytest

from influencekit.utils.estimator_checks import parametrize_with_checks
from influencekit.values import Banzhaf, BetaShapley, Datamodel, LeaveOneOut, Shapley
from tests.test_common import expected_failed_checks

VALUES = [
    Datamodel(n_trainings=6, random_state=0),
    Datamodel("lasso", n_trainings=6, random_state=0),
    Banzhaf(n_trainings=6, random_state=0),
    Shapley(n_trainings=6, random_state=0),
    Shapley("permutation", n_trainings=6, truncation=0.9, random_state=0),
    BetaShapley(n_trainings=6, truncation=0.9, random_state=0),
    LeaveOneOut(random_state=0),
]


@pytest.mark.slow
@parametrize_with_checks(VALUES, expected_failed_checks=expected_failed_checks)
def test_values(attributor, check):
    check(attributor)
