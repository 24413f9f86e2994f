"""Every attributor passes the public checks; every check fails on something broken."""

from influencekit import (
    TRAK,
    GradCos,
    GradDot,
    InfluenceFunction,
    LDSSearch,
    SurrogateLambdaSearchCV,
    TracIn,
)
from influencekit.utils.estimator_checks import parametrize_with_checks

#: One row registers an attributor for every common test.
ATTRIBUTORS = [
    GradDot(),
    GradCos(),
    TracIn(0.1),
    TRAK(projection_dim=None),
    TRAK(1e-2, projection_dim=8, random_state=0),
    InfluenceFunction("ggn"),
    InfluenceFunction("fisher", damping=1e-3),
    InfluenceFunction("fisher", projection_dim=8, random_state=0),
    SurrogateLambdaSearchCV(InfluenceFunction("fisher"), random_state=0),
    LDSSearch(InfluenceFunction("fisher"), n_subsets=6, n_trials=3, random_state=0),
]


def expected_failed_checks(attributor):
    if isinstance(attributor, LDSSearch):
        reason = "subsets and retraining seeds are drawn by row number"
        return {"check_train_permutation": reason}
    return {}


@parametrize_with_checks(ATTRIBUTORS, expected_failed_checks=expected_failed_checks)
def test_attributor(attributor, check):
    check(attributor)
