"""Parameters that nothing uses: what is set, and what the refusal or the warning says."""

import numpy as np

from influencekit import (
    TRAK,
    FurtherTraining,
    GradDot,
    GroupAttributor,
    InfluenceFunction,
    LDSSearch,
    RunAverage,
    SubsetPosterior,
    SurrogateLambdaSearchCV,
    Training,
)
from influencekit.applications import DatasetPruner, NoisyLabelDetector
from influencekit.curvature import KFAC, ConjugateGradient, LiSSA
from influencekit.groups import KMeansGrouper, RandomGrouper
from influencekit.values import Shapley
from tests.bad_inputs._world import (
    GROUPS,
    MASKS,
    X_QUERY,
    Y_QUERY,
    X,
    Y,
    classifier,
    fit,
    fit_run,
    net,
    outputs,
    retrain,
    task,
)


def influence(model=task, **given):
    return lambda: fit(model(), attributor=InfluenceFunction(**given)).score(X_QUERY, Y_QUERY)


def curved(curvature):
    return influence(curvature=curvature)


def grouped(attributor=None, **given):
    held = GroupAttributor(attributor or InfluenceFunction("fisher"), **given)
    return lambda: held.fit(task(), X, Y, groups=GROUPS).score(X_QUERY, Y_QUERY)


def further(**given):
    given = {"n_repeats": 2, "random_state": 0, **given}
    return lambda: fit(task(), attributor=FurtherTraining(**given)).score(X_QUERY, Y_QUERY)


def surrogate(X_query=None, y_query=None, **given):
    search = SurrogateLambdaSearchCV(InfluenceFunction("fisher"), random_state=0, **given)
    return lambda: search.fit(classifier(), X, Y, X_query=X_query, y_query=y_query)


def lds(outputs=None, **given):
    def use():
        search = LDSSearch(InfluenceFunction("fisher"), {"damping": [0.1, 1.0]}, **given)
        held = outputs() if outputs else None
        return search.fit(classifier(), X, Y, X_query=X_QUERY, y_query=Y_QUERY, subset_outputs=held)

    return use


def detector(**given):
    return lambda: NoisyLabelDetector(classifier(), random_state=0, **given).fit(X, Y)


def posterior(**given):
    def use():
        given.setdefault("prior", InfluenceFunction("fisher"))
        attributor = SubsetPosterior(**given, random_state=0)
        return attributor.fit(
            classifier(), X, Y, X_query=X_QUERY, y_query=Y_QUERY, subset_outputs=outputs()
        )

    return use


LR = Training("sgd", lr=0.1, n_steps=2)
SHORT = {"n_trials": 1, "n_subsets": 3, "random_state": 0}

ROWS = [
    ("projection_without_dim", influence(projection="gaussian", curvature="ggn"),
     "projection; 'gaussian'; projection_dim"),
    ("projection_without_dim_fisher", influence(projection="rademacher", curvature="fisher"),
     "projection; 'rademacher'; projection_dim"),
    ("projection_of_kfac", influence(projection="gaussian", curvature="kfac"),
     "projection; 'gaussian'; kfac"),
    ("projection_dim_of_kfac", influence(projection_dim=5, curvature="kfac"),
     "projection_dim; 5; kfac"),
    ("projection_dim_of_ekfac", influence(projection_dim=5, curvature="ekfac"),
     "projection_dim; 5; ekfac"),
    ("projection_dim_of_datainf", influence(projection_dim=5, curvature="datainf"),
     "projection_dim; 5; datainf"),
    ("projection_dim_of_cg", influence(projection_dim=5, curvature="cg", damping=0.1),
     "projection_dim; 5; cg"),
    ("projection_dim_of_arnoldi", influence(projection_dim=5, curvature="arnoldi", damping=0.1),
     "projection_dim; 5; arnoldi"),
    ("projection_of_lissa", influence(projection="gaussian", curvature="lissa", damping=0.1),
     "projection; 'gaussian'; lissa"),
    ("further_training_at_model", influence(further_training=LR), "further_training; at; 'model'"),
    ("further_training_at_model_of_a_linear_model",
     influence(classifier, further_training=LR), "further_training; at; 'model'"),
    ("trak_projection_without_dim",
     lambda: fit(task(), attributor=TRAK(projection_dim=None, projection="gaussian")),
     "projection; 'gaussian'; projection_dim"),
    ("further_lr_and_training", further(training=LR, lr=0.1), "training; lr"),
    ("further_epochs_and_training", further(training=LR, epochs=2), "training; epochs"),
    ("further_steps_and_epochs", further(lr=0.1, n_steps=2, epochs=2), "n_steps; epochs"),
    ("training_steps_and_epochs",
     lambda: FurtherTraining(training=Training("sgd", lr=0.1, n_steps=2, epochs=2)).fit(
         task(), X, Y),
     "n_steps; epochs"),
    ("training_momentum_of_adam",
     lambda: FurtherTraining(training=Training("adam", lr=0.1, n_steps=1, momentum=0.9)).fit(
         task(), X, Y), "momentum; Adam"),
    ("training_optimizer_params_repeat_lr",
     lambda: FurtherTraining(training=Training(
         "sgd", lr=0.1, n_steps=1, optimizer_params={"lr": 1.0})).fit(task(), X, Y),
     "optimizer_params; lr"),
    ("run_n_masks_without_masks", lambda: fit_run(n_masks=3), "n_masks; 3; mask_size"),
    ("run_removal_order_with_all_rows",
     lambda: fit_run(rows="all", removal_order="finite"), "rows; removal_order"),
    ("run_finite_with_masks", lambda: fit_run(removal_order="finite", mask_size=2),
     "mask_size; removal_order"),
    ("average_damping_factor_of_grad_dot",
     lambda: RunAverage(GradDot(), damping_factor=3.0, checkpoints=[net().state_dict()]).fit(
         task(), X, Y), "damping_factor; GradDot"),
    ("cg_rank_without_preconditioner",
     curved(ConjugateGradient(preconditioner=None, preconditioner_rank=5)),
     "preconditioner_rank; 5; None"),
    ("kfac_samples_of_empirical", curved(KFAC(fisher="empirical", n_samples=3)),
     "n_samples; 3; 'empirical'"),
    ("kfac_samples_of_true", curved(KFAC(fisher="true", n_samples=3)), "n_samples; 3; 'true'"),
    ("lissa_repeats_of_all_rows",
     influence(curvature=LiSSA(rows_per_step=None, repeats=3), damping=1.0),
     "repeats; 3; rows_per_step"),
    ("group_kernel_of_influence", grouped(trak_kernel="loss"), "trak_kernel; 'loss'; TRAK"),
    ("group_fisher_form_of_points", grouped(fisher_form="mean"), "fisher_form; 'mean'; groups"),
    ("group_curvature_of_grad_dot", grouped(GradDot(), curvature="groups"),
     "curvature; 'groups'; GradDot"),
    ("group_removal_order_of_grad_dot", grouped(GradDot(), removal_order="newton"),
     "removal_order; 'newton'; GradDot"),
    ("group_grouper_and_groups", grouped(grouper=RandomGrouper(n_groups=2)), "grouper; groups"),
    ("grouper_number_and_size",
     lambda: KMeansGrouper(n_groups=2, group_size=3).fit(classifier(), X, Y),
     "n_groups; group_size"),
    ("random_grouper_number_and_size",
     lambda: RandomGrouper(n_groups=2, group_size=3).fit(classifier(), X, Y),
     "n_groups; group_size"),
    ("search_name_without_storage", lds(study_name="a", **SHORT), "study_name; 'a'; storage"),
    ("search_subsets_and_outputs", lds(outputs, n_trials=1, n_subsets=9), "n_subsets; 9; outputs"),
    ("search_fraction_and_outputs", lds(outputs, n_trials=1, subset_fraction=0.3),
     "subset_fraction; 0.3; outputs"),
    ("search_repeats_and_outputs", lds(outputs, n_trials=1, n_repeats=3),
     "n_repeats; 3; outputs"),
    ("search_retrain_and_outputs", lds(outputs, n_trials=1, retrain=lambda *a: 0),
     "retrain; outputs"),
    ("surrogate_threshold_of_cosine", surrogate(criterion="cosine", threshold=0.3),
     "threshold; 0.3; cosine"),
    ("detector_rounds_of_loss", detector(method="loss", n_rounds=5), "n_rounds; 5; 'loss'"),
    ("detector_attributor_of_margin", detector(method="margin", attributor=GradDot()),
     "attributor; GradDot; 'margin'"),
    ("pruner_attributor_of_random",
     lambda: DatasetPruner(classifier(), GradDot(), strategy="random").fit(X, Y),
     "attributor; GradDot; 'random'"),
    ("posterior_factors_without_prior", posterior(prior=None, damping_factors=(0.1, 9.0)),
     "damping_factors; prior"),
    ("posterior_trainings_and_outputs", posterior(n_trainings=7), "n_trainings; 7; outputs"),
    ("posterior_fraction_and_outputs", posterior(subset_fraction=0.3),
     "subset_fraction; 0.3; outputs"),
    ("posterior_target_of_a_number", posterior(n_trainings=4, target_lds=0.5),
     "target_lds; 0.5; n_trainings"),
    ("retrain_subsets_and_masks", lambda: retrain(masks=MASKS, n_subsets=9), "n_subsets; masks"),
    ("retrain_fraction_and_masks", lambda: retrain(masks=MASKS, subset_fraction=0.3),
     "subset_fraction; masks"),
    ("retrain_transformers_without_pipeline", lambda: retrain(refit_transformers=True),
     "refit_transformers; Pipeline"),
    ("retrain_X_fit_without_pipeline", lambda: retrain(X_fit=X), "X_fit; Pipeline"),
    ("shapley_truncation_of_complementary",
     lambda: Shapley("complementary", n_trainings=48, truncation=0.5).fit(
         classifier(), X, Y, X_query=X_QUERY, y_query=Y_QUERY),
     "truncation; 0.5; 'complementary'"),
    ("layers_of_a_linear_model", influence(classifier, layers=["coef"]), "layers; coef"),
    ("layers_unknown", influence(layers=["conv1"]), "layers; 'conv1'"),
    ("layers_empty", influence(layers=[]), "layers; []"),
    ("max_memory_zero_text", influence(max_memory="0MB"), "max_memory; '0MB'"),
    ("max_memory_beyond_the_machine", influence(max_memory="900TB"), "max_memory; '900TB'"),
    ("max_memory_negative_text", influence(max_memory="-1GB"), "max_memory; '-1GB'"),
    ("damping_matched_at_model", influence(damping="matched"), "further_training; None"),
    ("removal_order_at_endpoint",
     influence(at="endpoint", further_training=LR, removal_order="newton"),
     "removal_order; 'newton'; at"),
]  # fmt: skip


def _boosted():
    from sklearn.ensemble import GradientBoostingClassifier

    return GradientBoostingClassifier(n_estimators=2, random_state=0).fit(X, np.asarray(Y))
