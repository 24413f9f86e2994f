"""Every attributor passes the public checks; every check fails on something broken."""

from influencekit import (
    TRAK,
    FurtherTraining,
    GradCos,
    GradDot,
    GroupAttributor,
    InfluenceFunction,
    LDSSearch,
    LossBaseline,
    RandomBaseline,
    RunAverage,
    SubsetPosterior,
    SurrogateLambdaSearchCV,
    TracIn,
    Training,
    TreeInfluence,
)
from influencekit.curvature import Arnoldi, ConjugateGradient, Hessian, LiSSA, Nystroem
from influencekit.utils.estimator_checks import parametrize_with_checks
from influencekit.values import DataOOB, KNNShapley
from influencekit.values._from_trainings import FromTrainings

#: One row registers an attributor for every common test.
ATTRIBUTORS = [
    GradDot(),
    GradCos(),
    TracIn(0.1),
    TRAK(projection_dim=None),
    TRAK(1e-2, projection_dim=8, random_state=0),
    InfluenceFunction("ggn"),
    InfluenceFunction("fisher", damping=1e-3),
    InfluenceFunction("kfac"),
    InfluenceFunction("ekfac"),
    InfluenceFunction("fisher", projection_dim=8, random_state=0),
    InfluenceFunction("datainf"),
    InfluenceFunction("logra", projection_dim=6, random_state=0),
    InfluenceFunction(Hessian()),
    InfluenceFunction(
        ConjugateGradient(rtol=1e-10, preconditioner_rank=5, random_state=0), damping=0.1
    ),
    InfluenceFunction(LiSSA(rows_per_step=None, rtol=1e-8, random_state=0), damping=50.0),
    InfluenceFunction(Arnoldi(rank=15, tol=0.0, random_state=0)),
    InfluenceFunction(Nystroem(rank=15, random_state=0)),
    LossBaseline(),
    RandomBaseline(random_state=0),
    RunAverage(),
    RunAverage(TRAK(projection_dim=8, random_state=0), slopes="unit"),
    SurrogateLambdaSearchCV(InfluenceFunction("fisher"), random_state=0),
    # one batch of all rows: no order, so rows may be permuted
    FurtherTraining(
        training=Training(lr=0.1, n_steps=2, batch_size=200), n_repeats=1, random_state=0
    ),
    GroupAttributor(InfluenceFunction("fisher")),  # without groups each row is one
    GroupAttributor(TRAK(0.1), curvature="groups"),
    LDSSearch(InfluenceFunction("fisher"), n_subsets=6, n_trials=3, random_state=0),
    SubsetPosterior(InfluenceFunction("fisher"), n_trainings=6, random_state=0),
    TreeInfluence(),
    TreeInfluence("boostin"),
    TreeInfluence("kernel", max_memory="1MB"),
    GroupAttributor(TreeInfluence()),
    KNNShapley(),
    DataOOB(),
]


def expected_failed_checks(attributor):
    if isinstance(attributor, LDSSearch):
        reason = "subsets and retraining seeds are drawn by row number"
        return {"check_train_permutation": reason}
    if isinstance(attributor, (SubsetPosterior, FromTrainings)):
        reason = "it learns from subsets that are drawn by row number, of one output"
        names = ("check_train_permutation", "check_duplicates", "check_explained_output")
        return dict.fromkeys(names, reason)
    if isinstance(attributor, KNNShapley):
        return {"check_train_permutation": "of rows at one distance the first one is nearer"}
    if isinstance(attributor, DataOOB):
        reason = "a forest draws rows by their number"
        return {"check_train_permutation": reason, "check_duplicates": reason}
    if isinstance(getattr(attributor, "attributor", attributor), TreeInfluence):
        return {"check_input_kinds": "trees read arrays, so Datasets are refused"}
    return {}


@parametrize_with_checks(ATTRIBUTORS, expected_failed_checks=expected_failed_checks)
def test_attributor(attributor, check):
    check(attributor)
