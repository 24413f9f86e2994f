"""Arguments of searches, runs and retraining: what is given, what is said."""

import numpy as np

from influencekit import (
    GradDot,
    InfluenceFunction,
    LDSSearch,
    SensitivityStudy,
    SGDInfluence,
    SubsetOutputs,
    SurrogateLambdaSearchCV,
    TracIn,
    compare,
    lds_scorer,
)
from influencekit.applications import (
    HorizonSearchCV,
    LookAheadSelector,
)
from influencekit.models import load_checkpoints
from influencekit.training import (
    Trajectory,
    rerun_without,
    train_checkpoints,
    trajectory_leave_one_out,
)
from tests.bad_inputs._world import (
    MASKS,
    N_QUERY,
    NAN,
    X_QUERY,
    Y_QUERY,
    N,
    X,
    Y,
    classifier,
    fitted,
    made_outputs,
    masked,
    outputs,
    retrain,
    run,
    skorch_net,
    task,
)


def surrogate(X_query=X_QUERY, y_query=Y_QUERY, **given):
    search = SurrogateLambdaSearchCV(InfluenceFunction("fisher"), random_state=0, **given)
    return lambda: search.fit(classifier(), X, Y, X_query=X_query, y_query=y_query)


def lds_search(held=outputs, space=None, **given):
    search = LDSSearch(InfluenceFunction("fisher"), space or {"damping": [0.1]},
                       **{"n_trials": 1, "random_state": 0, **given})  # fmt: skip
    query = {"X_query": X_QUERY, "y_query": Y_QUERY}
    return lambda: search.fit(classifier(), X, Y, **query, subset_outputs=held())


def tracin(rates, model=None):
    return lambda: TracIn(rates).fit(model or task(), X, Y).score(X_QUERY, Y_QUERY)


SEARCHES = [
    ("surrogate_more_folds_than_queries", surrogate(cv=10), "cv; 10; 4 queries"),
    ("surrogate_one_query", surrogate(X_QUERY[:1], Y_QUERY[:1], cv=2), "cv; 2; 1 quer"),
    ("surrogate_folds_one", surrogate(cv=1), "cv; 1; [2, inf)"),
    ("surrogate_folds_text", surrogate(cv="five"), "cv; 'five'"),
    ("surrogate_folds_share", surrogate(cv=2.5), "cv; 2.5"),
    ("surrogate_folds_pairs_of_text", surrogate(cv=[("a", "b")]), "cv; positions"),
    ("surrogate_folds_out_of_range", surrogate(cv=[([0, 1], [99])]), "cv; 99; 4 queries"),
    ("surrogate_folds_empty", surrogate(cv=[]), "cv; no fold"),
    ("surrogate_folds_of_rows", surrogate(cv=[([0, 1, 2], [])]), "cv; empty"),
    ("surrogate_dampings_two_axes", surrogate(dampings=[[0.1, 1.0]]), "dampings; [[0.1, 1.0]]"),
    ("surrogate_dampings_number", surrogate(dampings=0.1), "dampings; 0.1"),
    ("surrogate_dampings_infinite", surrogate(dampings=[0.1, np.inf]), "dampings; inf"),
    ("surrogate_queries_short", surrogate(X_QUERY, Y_QUERY[:2]), "X_query; 4; y_query; 2"),
    ("surrogate_threshold_text", surrogate(threshold="half"), "threshold; 'half'"),
    ("lds_storage_text", lds_search(storage="no storage"), "storage; 'no storage'"),
    ("lds_storage_of_unknown_kind", lds_search(storage="mongo://x"), "storage; 'mongo://x'"),
    ("lds_storage_in_a_missing_folder", lds_search(storage="sqlite:////no/such/folder/a.db"),
     "storage; /no/such/folder"),
    ("lds_sampler_text", lds_search(sampler="tpe"), "sampler; 'tpe'"),
    ("lds_space_of_functions", lds_search(space={"damping": [len]}), "damping; built-in"),
    ("lds_outputs_none_and_text", lds_search(lambda: "outputs.npz"), "subset_outputs; str"),
    ("lds_outputs_of_other_queries", lds_search(lambda: made_outputs(
        values=np.zeros((6, 1, 2)))), "subset_outputs; 2 queries; X_query 4; Both must"),
    ("lds_outputs_that_are_nan", lds_search(lambda: made_outputs(
        values=np.full((6, 1, N_QUERY), NAN))), "NaN"),
    ("lds_outputs_constant", lds_search(made_outputs), "outputs; constant"),
    ("scorer_of_text", lambda: lds_scorer("outputs.npz"), "subset_outputs; str"),
    ("compare_text", lambda: compare("GradDot", outputs(), X_QUERY, Y_QUERY), "attributors; str"),
    ("compare_unfitted", lambda: compare({"a": GradDot()}, outputs(), X_QUERY, Y_QUERY),
     "GradDot; not fitted"),
    ("compare_ground_truth_text", lambda: compare({"a": fitted()}, "truth", X_QUERY, Y_QUERY),
     "ground_truth; str"),
    ("compare_nothing", lambda: compare({}, outputs(), X_QUERY, Y_QUERY),
     "attributors; got dict; at least one"),
    ("study_epochs_text", lambda: SensitivityStudy(GradDot(), training_epochs=["a"]).fit(
        skorch_net(), X, Y, X_QUERY, Y_QUERY, subset_outputs=outputs()), "training_epochs; 'a'"),
    ("study_epochs_negative", lambda: SensitivityStudy(GradDot(), training_epochs=[-1]).fit(
        skorch_net(), X, Y, X_QUERY, Y_QUERY, subset_outputs=outputs()), "training_epochs; -1"),
    ("study_attributors_text", lambda: SensitivityStudy(["GradDot"]).fit(
        classifier(), X, Y, X_QUERY, Y_QUERY, subset_outputs=outputs()), "attributors; str"),
    ("horizon_selector_none", lambda: HorizonSearchCV(skorch_net(), None).fit(X, Y),
     "selector; None"),
    ("horizon_rates_negative", lambda: _horizon(learning_rates=(-0.1,)), "learning_rates; -0.1"),
    ("horizon_rates_text", lambda: _horizon(learning_rates="fast"), "learning_rates; 'fast'"),
    ("horizon_horizons_negative", lambda: _horizon(horizons=(-1,)), "horizons; -1"),
    ("horizon_estimator_linear", lambda: HorizonSearchCV(
        classifier(), LookAheadSelector(X_QUERY, Y_QUERY)).fit(X, Y), "estimator; Logistic"),
    ("horizon_folds", lambda: _horizon(cv=50), "cv; 50"),
    ("horizon_scoring_unknown", lambda: _horizon(scoring="acuracy"), "scoring; 'acuracy'"),
]  # fmt: skip


def _horizon(**given):
    selector = LookAheadSelector(X_QUERY, Y_QUERY)
    return HorizonSearchCV(skorch_net(), selector, **given).fit(X, Y)


RATES = [
    ("rates_negative", tracin(-0.1), "learning_rates; -0.1; not negative"),
    ("rates_negative_in_a_list", tracin([-0.1]), "learning_rates; -0.1; not negative"),
    ("rates_zero", tracin(0.0), "learning_rates; 0.0; above 0"),
    ("rates_nan", tracin(NAN), "learning_rates; nan; above 0"),
    ("rates_infinite", tracin([np.inf]), "learning_rates; inf; above 0"),
    ("rates_text", tracin(["fast"]), "learning_rates; 'fast'"),
    ("rates_true", tracin(True), "learning_rates; True"),
    ("rates_of_other_checkpoints", tracin([0.1, 0.2]), "learning_rates; 2; 1"),
    ("rates_two_axes", tracin([[0.1]]), "learning_rates; [[0.1]]"),
    ("rates_empty", tracin([]), "learning_rates; []"),
    ("rates_dict", tracin({"lr": 0.1}), "learning_rates; {'lr': 0.1}"),
    ("trajectory_none", lambda: SGDInfluence().fit(task(), X, Y), "trajectory=; recording"),
    ("trajectory_missing_file", lambda: SGDInfluence("no/such/run").fit(task(), X, Y),
     "no/such/run"),
    ("trajectory_number", lambda: SGDInfluence(3).fit(task(), X, Y), "trajectory; 3"),
    ("trajectory_of_other_rows", lambda: SGDInfluence(run()[1]).fit(run()[0], X[:9], Y[:9]),
     "9; 24"),
    ("trajectory_of_another_model", lambda: SGDInfluence(run()[1]).fit(task(), X, Y), "trajectory"),
    ("rerun_masks_of_other_rows", lambda: _rerun(np.ones((2, 5), bool)), "masks; 5; 24"),
    ("rerun_masks_positions", lambda: _rerun([[0, 1]]), "masks; int64; bool"),
    ("rerun_masks_empty", lambda: _rerun(np.zeros((0, N), bool)), "masks; 0"),
    ("rerun_dtype", lambda: _rerun(MASKS, dtype="float16"), "dtype; 'float16'"),
    ("rerun_chunk", lambda: _rerun(MASKS, chunk_size=0), "chunk_size; 0"),
    ("rerun_removal", lambda: _rerun(MASKS, removal="drop"), "removal; 'drop'"),
    ("loo_out_of_range", lambda: _loo(left_out=[99]), "left_out; 99; 23"),
    ("loo_text", lambda: _loo(left_out=["a"]), "left_out; <U1"),
    ("loo_number", lambda: _loo(left_out=-3), "left_out; shape ()"),
    ("loo_output", lambda: _loo(output="accuracy"), "output; 'accuracy'"),
    ("checkpoints_epochs_text", lambda: train_checkpoints(skorch_net(), X, Y, "ten"),
     "epochs; 'ten'"),
    ("checkpoints_epochs_negative", lambda: train_checkpoints(skorch_net(), X, Y, [-1]),
     "epochs; -1"),
    ("checkpoints_of_linear", lambda: train_checkpoints(classifier(), X, Y, [1]),
     "model; LogisticRegression"),
    ("checkpoints_missing", lambda: load_checkpoints(skorch_net(), ["no/such.pt"]), "no/such.pt"),
    ("checkpoints_number", lambda: load_checkpoints(skorch_net(), 3), "checkpoints; int"),
    ("checkpoints_empty", lambda: load_checkpoints(skorch_net(), []), "checkpoints; empty"),
]  # fmt: skip


def _rerun(masks, **given):
    return rerun_without(
        run()[0], X, Y, X_QUERY, Y_QUERY, masks=masks, trajectory=run()[1], **given
    )


def _loo(**given):
    return trajectory_leave_one_out(run()[0], X, Y, X_QUERY, Y_QUERY, trajectory=run()[1], **given)


RETRAINING = [
    ("retrain_subsets_share", lambda: retrain(n_subsets=2.5), "n_subsets; 2.5"),
    ("retrain_subsets_true", lambda: retrain(n_subsets=True), "n_subsets; True"),
    ("retrain_subsets_text", lambda: retrain(n_subsets="many"), "n_subsets; 'many'"),
    ("retrain_fraction_text", lambda: retrain(subset_fraction="half"), "subset_fraction; 'half'"),
    ("retrain_fraction_nan", lambda: retrain(subset_fraction=NAN), "subset_fraction; nan"),
    ("retrain_fraction_none", lambda: retrain(subset_fraction=None), "subset_fraction; None"),
    ("retrain_repeats_zero", lambda: retrain(n_repeats=0), "n_repeats; 0"),
    ("retrain_repeats_text", lambda: retrain(n_repeats="2"), "n_repeats; '2'"),
    ("retrain_seed_text", lambda: retrain(random_state="seed"), "random_state; 'seed'"),
    ("retrain_seed_negative", lambda: retrain(random_state=-1), "random_state; -1"),
    ("retrain_on_nan", lambda: retrain(on_nan="ignore"), "on_nan; 'ignore'"),
    ("retrain_jobs_text", lambda: retrain(n_jobs="all"), "n_jobs; 'all'"),
    ("retrain_jobs_zero", lambda: retrain(n_jobs=0), "n_jobs; 0"),
    ("retrain_verbose_text", lambda: retrain(verbose="yes"), "verbose; 'yes'"),
    ("retrain_cache_null", lambda: retrain(cache_dir="a\0b", random_state=0), "cache_dir; a\\x00b"),
    ("retrain_cache_empty", lambda: retrain(cache_dir="", random_state=0), "cache_dir; ''"),
    ("trajectory_null", lambda: Trajectory.load("a\0b"), "folder; a\\x00b"),
    ("outputs_save_null", lambda: outputs().save("a\0b.npz"), "path; a\\x00b"),
    ("retrain_cache_number", lambda: retrain(cache_dir=3), "cache_dir; 3"),
    ("retrain_record_text", lambda: retrain(record="losses"), "record; 'losses'"),
    ("retrain_retrain_text", lambda: retrain(retrain="fast"), "retrain; 'fast'"),
    ("retrain_masks_text", lambda: retrain(masks="half"), "masks; 'half'"),
    ("retrain_masks_one_axis", lambda: retrain(masks=MASKS[0]), "masks; (24,)"),
    ("retrain_masks_empty_subset", lambda: retrain(masks=np.zeros((2, N), bool)),
     "masks; subset 0; empty"),
    ("retrain_masks_masked", lambda: retrain(masks=masked(MASKS)), "masks; masked"),
    ("retrain_output_mixes", lambda: retrain(output=lambda o, t: o[:, 0] - o[:, 0].mean()),
     "output; other examples"),
    ("retrain_function_array", lambda: retrain(retrain=lambda X, y, seed: np.ones(9)),
     "retrain; ndarray; fitted model"),
    ("retrain_function_none", lambda: retrain(retrain=lambda X, y, seed: None),
     "retrain; NoneType; fitted model"),
    ("retrain_function_text", lambda: retrain(retrain=lambda X, y, seed: "a"),
     "retrain; str; fitted model"),
    ("retrain_function_raises", lambda: retrain(retrain=lambda rows: rows), "retrain; argument"),
    ("outputs_made_masked", lambda: made_outputs(values=masked(np.zeros((6, 1, N_QUERY)))),
     "outputs; masked; filled"),
    ("outputs_seeds_masked", lambda: made_outputs(seeds=masked(np.zeros((6, 1), int))),
     "seeds; masked; filled"),
    ("outputs_masks_text", lambda: made_outputs(masks=[["a", "b"]]), "masks; <U1"),
    ("outputs_of_other_subsets", lambda: SubsetOutputs(MASKS, np.zeros((3, 1, 2)),
                                                       np.zeros((3, 1))), "outputs; 3; 6"),
    ("outputs_seeds_of_other_shape", lambda: SubsetOutputs(MASKS, np.zeros((6, 1, 2)),
                                                           np.zeros((6, 2))), "seeds; (6, 2)"),
    ("outputs_two_axes", lambda: SubsetOutputs(MASKS, np.zeros((6, 2)), np.zeros((6, 1))),
     "outputs; (6, 2)"),
    ("outputs_load_missing", lambda: SubsetOutputs.load("no/such/outputs.npz"), "no/such/outputs"),
    ("outputs_load_number", lambda: SubsetOutputs.load(3), "path; 3"),
]  # fmt: skip

ROWS = SEARCHES + RATES + RETRAINING
