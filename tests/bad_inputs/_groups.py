"""Arguments of metrics, groups, applications and displays: what is given, what is said."""

import numpy as np
from sklearn.base import clone
from sklearn.cluster import KMeans

from influencekit import (
    GradDot,
    GroupAttributor,
    InfluenceFunction,
    influence_diagnostics,
    linear_datamodeling_score,
)
from influencekit.applications import (
    DatasetPruner,
    LookAheadSelector,
    NoisyLabelDetector,
    fairness_gap,
    group_counterfactual,
    removal_curve,
    score_then_retrain,
)
from influencekit.displays import AgreementDisplay, LambdaPathDisplay, TopExamplesDisplay
from influencekit.groups import (
    ClusterGrouper,
    DemographicParityDifference,
    KMeansGrouper,
    LabelGrouper,
    RandomGrouper,
    choose_group_size,
    leave_group_out,
)
from influencekit.metrics import (
    agreement_by_seeds,
    attribution_agreement,
    leave_one_out_correlation,
    noise_ceiling,
)
from influencekit.report import AttributionReport
from tests.bad_inputs._world import (
    GROUPS,
    MASKS,
    N_QUERY,
    NAN,
    SCORES,
    X_QUERY,
    Y_QUERY,
    N,
    X,
    Y,
    changed,
    classifier,
    fitted,
    grouped,
    influence,
    masked,
    regressor,
    skorch_net,
)


def lds(values=None, masks=MASKS, scores=SCORES):
    values = np.random.default_rng(0).random((6, N_QUERY)) if values is None else values
    return lambda: linear_datamodeling_score(values, masks, scores)


def groups(labels, **given):
    attributor = GroupAttributor(InfluenceFunction("fisher"), **given)
    return lambda: attributor.fit(classifier(), X, Y, groups=labels)


def grouper(held):
    attributor = GroupAttributor(InfluenceFunction("fisher"), held)
    return lambda: attributor.fit(classifier(), X, Y)


def left_out(labels=GROUPS, **given):
    given = {"n_repeats": 1, "random_state": 0, **given}
    return lambda: leave_group_out(classifier(), X, Y, X_QUERY, Y_QUERY, labels, **given)


def removal(scores=None, **given):
    given = {"n_repeats": 1, "n_random": 1, "random_state": 0, **given}
    scores = SCORES if scores is None else scores
    return lambda: removal_curve(classifier(), X, Y, X_QUERY, Y_QUERY, scores, **given)


def gap(probabilities=(0.1, 0.9, 0.4, 0.6), y=Y_QUERY, sensitive=(0, 0, 1, 1), *kind, **given):
    return lambda: fairness_gap(np.asarray(probabilities), y, np.asarray(sensitive), *kind, **given)


def detector(X_=X, y=Y, **given):
    return lambda: NoisyLabelDetector(classifier(), random_state=0, **given).fit(X_, y)


def pruner(**given):
    return lambda: DatasetPruner(classifier(), **given).fit(X, Y)


METRICS = [
    ("scores_as_text", lds(scores=SCORES.astype(str)), "scores; text"),
    ("scores_as_objects", lds(scores=changed(SCORES, "high")), "scores; numbers; high"),
    ("scores_nan", lds(scores=changed(SCORES, NAN)), "scores; NaN"),
    ("scores_masked", lds(scores=masked(SCORES)), "scores; masked"),
    ("scores_one_axis", lds(scores=SCORES[0]), "scores; (24,)"),
    ("scores_none", lds(scores=None), "scores; None"),
    ("scores_complex", lds(scores=SCORES + 1j), "scores; complex"),
    ("outputs_as_text", lds(values=np.ones((6, N_QUERY)).astype(str)), "outputs; text"),
    ("outputs_nan", lds(values=np.full((6, N_QUERY), NAN)), "outputs; NaN"),
    ("outputs_masked", lds(values=masked(np.ones((6, N_QUERY)))), "outputs; masked"),
    ("masks_as_text", lds(masks=MASKS.astype(str)), "masks; text"),
    ("masks_nan", lds(masks=changed(MASKS, NAN)), "masks; NaN"),
    ("masks_none", lds(masks=None), "masks; None"),
    ("ceiling_of_text", lambda: noise_ceiling(np.full((4, 2, 3), "a")), "outputs; text"),
    ("ceiling_one_repeat", lambda: noise_ceiling(np.ones((4, 1, 3))), "outputs; repeats"),
    ("loo_changes_text", lambda: leave_one_out_correlation(np.full((2, 3), "a"), np.ones((2, 3))),
     "loo_changes; text"),
    ("loo_changes_other_rows",
     lambda: leave_one_out_correlation(np.ones((2, 3)), np.ones((2, 5))), "scores; (2, 3); (2, 5)"),
    ("agreement_text", lambda: attribution_agreement(SCORES.astype(str), SCORES), "gold; text"),
    ("agreement_shapes", lambda: attribution_agreement(SCORES, SCORES[:, :3]),
     "scores; (1, 4, 24); (1, 4, 3)"),
    ("agreement_nan", lambda: attribution_agreement(changed(SCORES, NAN), SCORES), "gold; NaN"),
    ("agreement_resolution", lambda: attribution_agreement(SCORES, SCORES, resolution=-1),
     "resolution; -1"),
    ("seeds_one", lambda: agreement_by_seeds(SCORES[None], SCORES),
     "scores; ndarray; gold_of_seeds"),
    ("seeds_repeats_text", lambda: agreement_by_seeds([SCORES] * 4, {"a": SCORES},
                                                      n_repeats=["two"]), "n_repeats; 'two'"),
    ("diagnostics_of_a_net", lambda: influence_diagnostics(skorch_net(), X, Y), "model; Neural"),
    ("diagnostics_short", lambda: influence_diagnostics(regressor(), X, Y[:3]), "X has 24; y has"),
]  # fmt: skip

GROUPED = [
    ("groups_nan", groups(changed(GROUPS, NAN)), "groups; 1 rows; missing"),
    ("groups_none_label", groups(changed(GROUPS, None)), "groups; 1 rows; missing"),
    ("groups_masked", groups(masked(GROUPS)), "groups; masked"),
    ("groups_short", groups(GROUPS[:5]), "groups; 5; 24"),
    ("groups_text", groups("group"), "groups; 'group'"),
    ("groups_number", groups(4), "groups; shape (); int"),
    ("groups_dict", groups({"a": [0, 1]}), "groups; shape (); dict"),
    ("grouper_text", grouper("kmeans"), "grouper; 'kmeans'"),
    ("grouper_number", grouper(5), "grouper; 5"),
    ("grouper_class", grouper(KMeansGrouper), "grouper; class"),
    ("clusterer_text", grouper(ClusterGrouper("kmeans")), "clusterer; 'kmeans'"),
    ("clusterer_none", grouper(ClusterGrouper(None)), "clusterer; None"),
    ("clusterer_class", grouper(ClusterGrouper(KMeans)), "clusterer; class"),
    ("clusterer_regressor", grouper(ClusterGrouper(regressor())), "clusterer; Ridge"),
    ("labels_short", grouper(LabelGrouper(GROUPS[:3])), "labels; 3; 24"),
    ("labels_nan", grouper(LabelGrouper(changed(GROUPS, NAN))), "labels; missing"),
    ("labels_unknown_column", grouper(LabelGrouper("town")), "labels; 'town'"),
    ("more_groups_than_rows", grouper(RandomGrouper(n_groups=99)), "n_groups; 99; 24"),
    ("more_clusters_than_rows", grouper(KMeansGrouper(n_groups=99)), "n_groups; 99; 24"),
    ("random_groups_of_neither", grouper(RandomGrouper()), "n_groups; group_size"),
    ("property_text", groups(GROUPS, property="accuracy"), "property; 'accuracy'"),
    ("property_sensitive_short", lambda: GroupAttributor(
        InfluenceFunction("fisher"), property=DemographicParityDifference([0, 1])).fit(
            classifier(), X, Y, groups=GROUPS).score(X_QUERY, Y_QUERY), "sensitive; 2; 4"),
    ("held_class", lambda: GroupAttributor(GradDot).fit(classifier(), X, Y, groups=GROUPS),
     "attributor; GradDot"),
    ("held_text", lambda: GroupAttributor("GradDot").fit(classifier(), X, Y, groups=GROUPS),
     "attributor; 'GradDot'"),
    ("leave_out_nan", left_out(changed(GROUPS, NAN)), "groups; 1 rows; missing"),
    ("leave_out_unknown", left_out(left_out=["no group"]), "left_out; 'no group'"),
    ("leave_out_text", left_out("group"), "groups; 'group'"),
    ("leave_out_repeats", left_out(n_repeats=0), "n_repeats; 0"),
    ("leave_out_output", left_out(output="accuracy"), "output; 'accuracy'"),
    ("group_sizes_text", lambda: choose_group_size(grouped(), classifier(), X, Y, X_QUERY, Y_QUERY,
                                                   group_sizes=["a"]), "group_sizes; 'a'"),
    ("group_sizes_fidelity", lambda: choose_group_size(
        grouped(), classifier(), X, Y, X_QUERY, Y_QUERY, fidelity=2), "fidelity; 2"),
]  # fmt: skip

APPLICATIONS = [
    ("removal_scores_text", removal(SCORES.astype(str)), "scores; text"),
    ("removal_scores_short", removal(SCORES[:, :3]), "scores; 3; 24"),
    ("removal_scores_nan", removal(changed(SCORES, NAN)), "scores; NaN"),
    ("removal_scores_masked", removal(masked(SCORES)), "scores; masked"),
    ("removal_fractions_two", removal(fractions=[2.0]), "fractions; 2.0"),
    ("removal_fractions_text", removal(fractions=["a"]), "fractions; text"),
    ("removal_fractions_empty", removal(fractions=[]), "fractions; []"),
    ("removal_which", removal(which="best"), "which; 'best'"),
    ("removal_random", removal(n_random=-1), "n_random; -1"),
    ("removal_groups_nan", removal(np.ones(4), groups=changed(GROUPS, NAN)), "groups; missing"),
    ("counterfactual_gap", lambda: _counterfactual(gap="parity"), "gap; 'parity'"),
    ("counterfactual_groups_nan", lambda: _counterfactual(groups=changed(GROUPS, NAN)),
     "groups; missing"),
    ("counterfactual_sensitive", lambda: _counterfactual(sensitive=[0, 1]), "sensitive; 2; 4"),
    ("counterfactual_threshold", lambda: _counterfactual(threshold="half", sensitive=[0, 0, 1, 1]),
     "threshold; 'half'"),
    ("gap_probability_two", gap((2.0, 0.1, 0.2, 0.3)), "probabilities; 2"),
    ("gap_probability_nan", gap((NAN, 0.1, 0.2, 0.3)), "probabilities; NaN"),
    ("gap_probability_text", gap(("a", "b", "c", "d")), "probabilities; text"),
    ("gap_sensitive_short", gap(sensitive=(0, 1)), "sensitive; 2; 4"),
    ("gap_sensitive_nan", gap(sensitive=(0.0, 1.0, NAN, 1.0)), "sensitive; missing"),
    ("gap_sensitive_one", gap(sensitive=(0, 0, 0, 0)), "sensitive; one group"),
    ("gap_kind", gap((0.1, 0.9, 0.4, 0.6), Y_QUERY, (0, 0, 1, 1), "parity"), "gap; 'parity'"),
    ("gap_threshold_nan", gap(threshold=NAN), "threshold; nan"),
    ("gap_threshold_two", gap(threshold=2), "threshold; 2"),
    ("detector_folds", detector(cv=50), "cv; 50"),
    ("detector_contamination", detector(contamination=0.9), "contamination; 0.9"),
    ("detector_estimator_text", lambda: NoisyLabelDetector("logistic").fit(X, Y),
     "estimator; 'logistic'"),
    ("detector_estimator_none", lambda: NoisyLabelDetector(None).fit(X, Y), "estimator; None"),
    ("detector_estimator_class", lambda: NoisyLabelDetector(type(classifier())).fit(X, Y),
     "estimator; class"),
    ("detector_one_class", detector(y=np.zeros(N, int)), "y; one class"),
    ("detector_grouper_text", detector(grouper="kmeans"), "grouper; 'kmeans'"),
    ("pruner_fraction", pruner(fraction=1.5), "fraction; 1.5"),
    ("pruner_estimator_text", lambda: DatasetPruner("logistic").fit(X, Y), "estimator; 'logistic'"),
    ("pruner_estimator_none", lambda: DatasetPruner(None).fit(X, Y), "estimator; None"),
    ("pruner_folds", pruner(cv=50), "cv; 50"),
    ("look_ahead_horizon", lambda: _selected(horizon=-1), "horizon; -1"),
    ("look_ahead_keep", lambda: _selected(keep=0.0), "keep; 0.0"),
    ("score_then_retrain_keep", lambda: score_then_retrain(
        skorch_net(), X, Y, X_QUERY, Y_QUERY, keep=2), "keep; 2"),
    ("score_then_retrain_linear", lambda: score_then_retrain(
        classifier(), X, Y, X_QUERY, Y_QUERY), "estimator; Logistic"),
    ("top_examples_k", lambda: TopExamplesDisplay.from_estimator(fitted(), X, X_QUERY, k=0),
     "k; 0"),
    ("top_examples_rows", lambda: TopExamplesDisplay.from_estimator(
        fitted(), X, X_QUERY, rows=[99]), "rows; 99; 4"),
    ("top_examples_shape", lambda: TopExamplesDisplay.from_estimator(
        fitted(), X, X_QUERY, image_shape=(9, 9)), "image_shape; (9, 9); 81"),
    ("lambda_path_of_attributor", lambda: LambdaPathDisplay.from_estimator(influence()),
     "search; InfluenceFunction"),
    ("agreement_curves_text", lambda: AgreementDisplay([1, 2], {"a": ["x", "y"]}).plot(),
     "curves; text"),
    ("report_of_unfitted", lambda: AttributionReport.from_attributor(GradDot(), X_QUERY),
     "GradDot; not fitted"),
    ("report_shown", lambda: AttributionReport.from_attributor(fitted(), X_QUERY, n_shown=0),
     "n_shown; 0"),
]  # fmt: skip


def _counterfactual(groups=GROUPS, **given):
    return group_counterfactual(
        classifier(), X, Y, X_QUERY, Y_QUERY, groups, **{"n_repeats": 1, "random_state": 0, **given}
    )


def _selected(**given):
    selector = LookAheadSelector(X_QUERY, Y_QUERY, **given)
    return clone(skorch_net()).set_params(callbacks=[("ahead", selector)]).fit(X, Y)


ROWS = METRICS + GROUPED + APPLICATIONS
