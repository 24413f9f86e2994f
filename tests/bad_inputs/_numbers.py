"""Exact removal, values, trees, fairness, reports, the command line and data sets."""

import contextlib
import io
import tempfile
from functools import cache
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier

from influencekit import (
    GradDot,
    GroupAttributor,
    InfluenceFunction,
    RunAverage,
    SubsetPosterior,
    TreeInfluence,
)
from influencekit.applications import fairness_gap, group_counterfactual, removal_curve
from influencekit.cli._main import main
from influencekit.datasets import (
    fetch_acs,
    get_data_home,
    load_ground_truth,
    load_heloc,
    load_uci_energy,
)
from influencekit.displays import GroupScoresDisplay, LambdaPathDisplay, TopExamplesDisplay
from influencekit.groups import DemographicParityDifference, KMeansGrouper, choose_group_size
from influencekit.report import AttributionReport
from influencekit.training import TrainerCheckpoints
from influencekit.values import Banzhaf, BetaShapley, Datamodel, DataOOB, KNNShapley, Shapley
from tests.bad_inputs._world import (
    GROUPS,
    NAN,
    SCORES,
    TARGET,
    X_QUERY,
    Y_QUERY,
    N,
    X,
    Y,
    classifier,
    fit,
    fitted,
    influence,
    regressor,
    retrain,
    skorch_net,
)

FRAME = pd.DataFrame(X.astype(float), columns=list("abc"))


@cache
def forest():
    return RandomForestClassifier(4, max_depth=2, random_state=0).fit(X, Y)


@cache
def boosted():
    return GradientBoostingRegressor(n_estimators=3, max_depth=2).fit(X, TARGET)


def without(rows, *queries, **given):
    queries = queries or (X_QUERY, Y_QUERY)
    return lambda: influence().predict_without(rows, *queries, **given)


def most(*queries, **given):
    queries = queries or (X_QUERY[:1], Y_QUERY[:1])
    return lambda: influence().most_influential_set(*queries, n_random=0, **given)


def report(attributor=fitted, X_=X_QUERY, y=Y_QUERY, **given):
    return lambda: AttributionReport.from_attributor(attributor(), X_, y, **given)


def value(made):
    retrains = not isinstance(made, KNNShapley)
    asked = {"X_query": X_QUERY, "y_query": Y_QUERY} if retrains else {}
    return lambda: made.fit(classifier(), X, Y, **asked).score(X_QUERY, Y_QUERY)


def average(**given):
    return lambda: fit(skorch_net(), attributor=RunAverage(GradDot(), **given))


def command(*words, **files):
    """The command line in a folder of files; what it prints is the message."""

    def use():
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            joblib.dump(classifier(), "model.joblib")
            table = pd.DataFrame(X.astype(float), columns=list("abc"))
            table.assign(target=Y).to_csv("train.csv", index=False)
            for name, text in files.items():
                Path(f"{name}.csv").write_text(text)
            said = io.StringIO()
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
                try:
                    code = main([str(word) for word in words])
                except SystemExit as ended:
                    code = ended.code
            if code:
                raise ValueError(said.getvalue().strip().removeprefix("influencekit: "))

    return use


def told(*more, queries="train.csv", train="train.csv", model="model.joblib"):
    return ["query", "--model", model, "--trust", "--train", train, "--queries", queries,
            "--target", "target", *more]  # fmt: skip


REMOVAL = [
    ("without_out_of_range", without([N]), "rows; 24"),
    ("without_negative", without([-1]), "rows; -1; from 0 to 23"),
    ("without_nobody", without([]), "rows"),
    ("without_everybody", without(np.arange(N)), "rows; all training rows"),
    ("without_a_class", without(np.flatnonzero(Y == 0)), "rows; class"),
    ("without_text", without("all"), "rows; 'all'"),
    ("without_share", without(0.5), "rows; 0.5"),
    ("without_short_mask", without(np.array([True])), "rows; True"),
    ("without_wide_queries", without([1], np.ones((1, 9))), "X; 9"),
    ("score_other_columns",
     lambda: fit(X_=FRAME).score(FRAME[["b", "a", "c"]]), "X; 'b', 'a', 'c'"),
    ("score_renamed_columns",
     lambda: fit(X_=FRAME).score(FRAME.rename(columns={"c": "z"})), "X; 'z'"),
    ("retrain_other_columns",
     lambda: retrain(X=FRAME, X_query=FRAME[["b", "a", "c"]], y_query=Y), "X_query; 'b', 'a'"),
    ("without_refit_text", without([1], refit="yes"), "refit; 'yes'"),
    ("without_tolerance_negative", without([1], tolerance=-1), "tolerance; -1"),
    ("without_tolerance_nan", without([1], tolerance=NAN), "tolerance; nan"),
    ("without_properties_list", without([1], properties=[np.mean]), "properties"),
    ("without_property_of_text", without([1], properties={"a": "mean"}), "properties; 'mean'"),
    ("without_property_of_many",
     without([1], properties={"a": lambda outputs, targets: outputs}), "properties"),
    ("most_nothing_asked", most(), "k; until"),
    ("most_both_asked", most(k=1, until="flip"), "k; until"),
    ("most_k_zero", most(k=0), "k; 0"),
    ("most_k_beyond", most(k=N), "k; 24"),
    ("most_until_text", most(until="zero"), "until; 'zero'"),
    ("most_until_nan", most(until=NAN), "until; nan"),
    ("most_two_queries", most(X_QUERY, Y_QUERY, k=2), "X; 4"),
    ("most_rows_zero", most(until="flip", max_rows=0), "max_rows; 0"),
    ("most_random_negative",
     lambda: influence().most_influential_set(X_QUERY[:1], k=1, n_random=-1), "n_random; -1"),
    ("most_property_number", most(k=1, property=3), "property; 3"),
]  # fmt: skip

VALUES = [
    ("banzhaf_trainings_one", value(Banzhaf(n_trainings=1)), "n_trainings; 1"),
    ("banzhaf_tol_negative", value(Banzhaf(tol=-1.0)), "tol; -1"),
    ("beta_alpha_zero", value(BetaShapley(0.0)), "alpha; 0.0"),
    ("beta_beta_nan", value(BetaShapley(1.0, NAN)), "beta; nan"),
    ("datamodel_regression", value(Datamodel("forest")), "regression; 'forest'"),
    ("datamodel_fraction_one", value(Datamodel(subset_fraction=1.0, n_trainings=8)),
     "subset_fraction; 1.0"),
    ("knn_metric_undefined",
     value(KNNShapley(metric=lambda a, b: NAN)), "metric; not finite"),
    ("knn_metric_text", value(KNNShapley(metric="taxicab of mine")), "metric; taxicab of mine"),
    ("knn_metric_of_text", value(KNNShapley(metric=lambda a, b: "far")), "metric; 'far'"),
    ("shapley_method", value(Shapley("exact")), "method; 'exact'"),
    ("shapley_truncation_negative", value(Shapley("permutation", truncation=-0.1)),
     "truncation; -0.1"),
    ("oob_without_bootstrap",
     lambda: DataOOB().fit(RandomForestClassifier(4, bootstrap=False).fit(X, Y), X, Y),
     "model; bootstrap"),
    ("oob_other_rows", lambda: DataOOB().fit(forest(), X[:9], Y[:9]), "X; 9 rows"),
    ("trees_of_linear", lambda: TreeInfluence().fit(classifier(), X, Y), "model; LogisticR"),
    ("trees_method", lambda: TreeInfluence("leaves").fit(boosted(), X, TARGET), "method; 'leaves'"),
    ("trees_other_width", lambda: TreeInfluence().fit(boosted(), X[:, :2], TARGET), "X; 2"),
    ("trees_without_targets", lambda: TreeInfluence().fit(boosted(), X), "y"),
    ("average_checkpoints_zero", average(n_checkpoints=0), "n_checkpoints; 0"),
    ("average_of_no_checkpoints", average(checkpoints=[]), "checkpoints"),
    ("average_slopes_text", average(slopes="steep"), "slopes; 'steep'"),
    ("average_retrain_text", average(retrain="yes"), "retrain; 'yes'"),
    ("average_factor_nan",
     lambda: fit(skorch_net(), attributor=RunAverage(InfluenceFunction(), damping_factor=NAN)),
     "damping_factor; nan"),
    ("posterior_factor_negative",
     lambda: SubsetPosterior(damping_factors=(-1.0,)).fit(classifier(), X, Y, X_query=X_QUERY,
                                                          y_query=Y_QUERY), "damping_factors; -1"),
    ("posterior_most_below_first",
     lambda: SubsetPosterior(None, n_trainings=20, max_trainings=3).fit(
         classifier(), X, Y, X_query=X_QUERY, y_query=Y_QUERY), "max_trainings; 3; 20"),
    ("trainer_checkpoints_zero", lambda: TrainerCheckpoints(0), "n; 0"),
]  # fmt: skip

FAIRNESS = [
    ("gap_targets_short", lambda: fairness_gap([0.1, 0.9], [0], [0, 1]), "y; 1; 2"),
    ("gap_rows_of_three_classes",
     lambda: fairness_gap(np.full((2, 3), 1 / 3), [0, 1], [0, 1]), "probabilities; 3"),
    ("gap_positive_unknown",
     lambda: fairness_gap([0.1, 0.9], ["n", "y"], [0, 1], positive="z"), "positive; 'z'"),
    ("parity_class_negative",
     lambda: DemographicParityDifference([0, 1], positive=-1), "positive; -1"),
    ("counterfactual_left_out_unknown",
     lambda: group_counterfactual(classifier(), X, Y, X_QUERY, Y_QUERY, GROUPS, left_out=[9],
                                  sensitive=[0, 1, 0, 1], n_repeats=1), "left_out; 9"),
    ("curve_repeats_zero",
     lambda: removal_curve(classifier(), X, Y, X_QUERY, Y_QUERY, SCORES.mean(0), n_repeats=0),
     "n_repeats; 0"),
    ("sizes_beyond_rows",
     lambda: choose_group_size(
         GroupAttributor(InfluenceFunction("fisher"), KMeansGrouper(group_size=4),
                         curvature="groups"),
         classifier(), X, Y, X_QUERY, Y_QUERY, group_sizes=(4, 100)), "group_sizes; 100; 24"),
    ("report_nothing_shown", report(n_shown=0), "n_shown; 0"),
    ("report_k_share", report(k=1.5), "k; 1.5"),
    ("report_title_number", report(title=3), "title; int"),
    ("report_rows_out_of_range", report(rows=[9]), "rows; 9"),
    ("report_features_unknown", report(features=["age"]), "features; 'age'"),
    ("report_image_shape", report(image_shape=(2, 2)), "image_shape; (2, 2)"),
    ("report_names_short", report(target_names=["a"]), "target_names; 1"),
    ("report_evaluation_text", report(evaluation="good"), "evaluation; str"),
    ("report_detector_unfitted", report(detector=GradDot()), "detector"),
    ("report_lambda_path_text", report(lambda_path="yes"), "lambda_path; 'yes'"),
    ("report_short_targets", report(y=Y_QUERY[:1]), "X has 4; y has 1"),
    ("report_saved_to_number",
     lambda: AttributionReport.from_attributor(fitted(), X_QUERY, Y_QUERY, X_train=X).save(3),
     "path; 3"),
    ("report_saved_nowhere",
     lambda: AttributionReport.from_attributor(fitted(), X_QUERY, Y_QUERY, X_train=X).save(
         "/no/such/a.html"), "path; /no/such"),
    ("display_groups_short", lambda: GroupScoresDisplay([1.0, 2.0], ["a"]).plot(), "names; 1; 2"),
    ("display_path_short", lambda: LambdaPathDisplay([0.1, 1.0], [0.5]).plot(), "mean_xi; 1; 2"),
    ("display_examples_shape",
     lambda: TopExamplesDisplay.from_predictions(SCORES[:, :9], X_train=X, X_query=X_QUERY),
     "scores; 9; 24"),
]  # fmt: skip

FILES = [
    ("command_k_zero", command(*told("-k", 0)), "k; 0"),
    ("command_unknown_method", command(*told("--method", "Influence")), "method; 'Influence'"),
    ("command_missing_model", command(*told(model="no.joblib")), "model; no.joblib"),
    ("command_model_of_text", command(*told(model="train.csv")), "model; train.csv"),
    ("command_missing_queries", command(*told(queries="no.csv")), "queries; no.csv"),
    ("command_empty_queries", command(*told(queries="none.csv"), none=""), "queries; none.csv"),
    ("command_queries_of_no_rows", command(*told(queries="q.csv"), q="a,b,c,target\n"),
     "queries"),
    ("command_other_columns", command(*told(queries="q.csv"), q="a,b,z,target\n1,2,3,0\n"),
     "--queries; 'z'"),
    ("command_words_in_cells", command(*told(queries="q.csv"), q="a,b,c,target\n1,2,x,0\n"),
     "queries; x"),
    ("command_without_target", command(*told(train="t.csv"), t="a,b,c\n1,2,3\n"), "target"),
    ("command_max_memory", command(*told("--set", "max_memory=lots")), "max_memory; lots"),
    ("heloc_missing", lambda: load_heloc("/no/such.csv"), "path; /no/such.csv"),
    ("heloc_other_file", lambda: load_heloc(__file__), "path"),
    ("energy_other_file", lambda: load_uci_energy(__file__), "path"),
    ("energy_number", lambda: load_uci_energy(3), "path; 3"),
    ("acs_task", lambda: fetch_acs("ACSWealth"), "task; 'ACSWealth'"),
    ("acs_state", lambda: fetch_acs(states=["ZZ"]), "states; 'ZZ'"),
    ("acs_year", lambda: fetch_acs(survey_year=1066), "survey_year; 1066"),
    ("acs_horizon", lambda: fetch_acs(survey_horizon="2-Year"), "survey_horizon; '2-Year'"),
    ("data_home_number", lambda: get_data_home(3), "data_home; 3"),
    ("truth_home_number", lambda: load_ground_truth("wine-linear", data_home=3), "data_home; 3"),
    ("regression_coefficient_unknown",
     lambda: InfluenceFunction("ggn", output="coef").fit(regressor(), X, TARGET).score(
         ["age"]), "X; 'age'"),
]  # fmt: skip

ROWS = [*REMOVAL, *VALUES, *FAIRNESS, *FILES]
