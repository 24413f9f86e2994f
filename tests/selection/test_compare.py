"""One table of several attributors, against numpy and scipy by hand."""

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression

from influencekit import (
    GradDot,
    InfluenceFunction,
    RandomBaseline,
    SubsetOutputs,
    compare,
)
from influencekit.groups import GroupAttributor
from influencekit.training.leave_one_out._result import TrajectoryLeaveOneOut

X, Y = load_iris(return_X_y=True)
X = (X - X.mean(axis=0)) / X.std(axis=0)
TRAIN, QUERY = (X[::3], Y[::3]), (X[1::15], Y[1::15])
MODEL = LogisticRegression(max_iter=1000).fit(*TRAIN)
ATTRIBUTORS = {"influence": InfluenceFunction(), "dot": GradDot(), "random": RandomBaseline()}
COLUMNS = [
    "score",
    "standard_error",
    "difference",
    "difference_error",
    "noise_ceiling",
    "fit_seconds",
    "score_seconds",
]


def retrained(masks):
    """Minus the loss of models fitted on subsets, at the queries."""
    outputs = []
    for mask in masks:
        model = LogisticRegression(max_iter=1000).fit(TRAIN[0][mask], TRAIN[1][mask])
        outputs.append(model.predict_log_proba(QUERY[0])[np.arange(len(QUERY[1])), QUERY[1]])
    return SubsetOutputs(masks, np.array(outputs)[:, None], np.zeros((len(masks), 1), dtype=int))


@pytest.fixture(scope="module")
def truth():
    return retrained(np.random.default_rng(0).random((12, len(TRAIN[0]))) < 0.6)


@pytest.fixture(scope="module")
def fitted():
    given = {**ATTRIBUTORS, "random": RandomBaseline(random_state=0)}
    return {name: attributor.fit(MODEL, *TRAIN) for name, attributor in given.items()}


def by_hand(table, correlations, reference):
    """The columns of each name, from correlations (n_query,) by name."""
    n = len(correlations[reference])
    for name, values in correlations.items():
        difference = values - correlations[reference]
        row = table.loc[name]
        assert row["score"] == pytest.approx(values.mean(), abs=1e-9)
        assert row["standard_error"] == pytest.approx(values.std(ddof=1) / np.sqrt(n), abs=1e-9)
        assert row["difference"] == pytest.approx(difference.mean(), abs=1e-9)
        error = difference.std(ddof=1) / np.sqrt(n)
        assert row["difference_error"] == pytest.approx(error, abs=1e-9)


@pytest.mark.parametrize(("method", "one"), [("spearman", spearmanr), ("pearson", pearsonr)])
@pytest.mark.parametrize("reference", [None, "dot"])
def test_subsets(truth, fitted, method, one, reference):
    table = compare(fitted, truth, *QUERY, correlation=method, reference=reference)
    assert list(table.columns) == COLUMNS
    assert list(table.index) == list(fitted)
    outputs = truth.outputs.mean(axis=1)
    correlations = {}
    for name, attributor in fitted.items():
        sums = attributor.score(*QUERY) @ truth.masks.T
        correlations[name] = np.array(
            [one(outputs[:, i], sums[i]).statistic for i in range(len(sums))]
        )
    by_hand(table, correlations, reference or "influence")
    assert table["noise_ceiling"].isna().all()
    assert table["fit_seconds"].isna().all()
    assert (table["score_seconds"] > 0).all()


def test_rows_left_out_of_a_run(fitted):
    left_out = np.array([3, 7, 20, 31])
    outputs = np.random.default_rng(0).standard_normal((4, len(QUERY[0])))
    reference, noise = np.zeros(len(QUERY[0])), np.zeros(len(QUERY[0]))
    truth = TrajectoryLeaveOneOut(outputs, reference, left_out, len(TRAIN[0]), noise)
    table = compare(fitted, truth, *QUERY)
    correlations = {}
    for name, attributor in fitted.items():
        scores = attributor.score(*QUERY)[:, left_out]
        correlations[name] = np.array(
            [spearmanr(-outputs[:, i], scores[i]).statistic for i in range(len(scores))]
        )
    by_hand(table, correlations, "influence")


def test_leave_one_out_by_retraining():
    masks = np.ones((6, len(TRAIN[0])), dtype=bool)
    masks[np.arange(6), np.arange(0, 48, 8)] = False
    truth = retrained(masks)
    attributor = InfluenceFunction().fit(MODEL, *TRAIN)
    table = compare({"influence": attributor}, truth, *QUERY)
    scores = attributor.score(*QUERY)[:, np.arange(0, 48, 8)]
    changes = -truth.outputs.mean(axis=1).T
    values = [spearmanr(s, c).statistic for s, c in zip(scores, changes, strict=True)]
    assert table.loc["influence", "score"] == pytest.approx(np.mean(values))


def test_they_are_fitted_where_a_model_is_given(truth, fitted):
    unfitted = {**ATTRIBUTORS, "random": RandomBaseline(random_state=0)}
    unfitted = {name: type(a)(**a.get_params()) for name, a in unfitted.items()}
    table = compare(unfitted, truth, *QUERY, model=MODEL, X=TRAIN[0], y=TRAIN[1])
    assert (table["fit_seconds"] > 0).all()
    assert not any(hasattr(attributor, "fitted_") for attributor in unfitted.values())
    expected = compare(fitted, truth, *QUERY)
    np.testing.assert_allclose(table["score"], expected["score"], rtol=1e-12)


def test_scores_that_were_computed_before(truth, fitted):
    same_class = (QUERY[1][:, None] == TRAIN[1]).astype(float)
    given = {"scores": fitted["dot"].score(*QUERY), "dot": fitted["dot"], "class": same_class}
    table = compare(given, truth, *QUERY)
    assert table.loc["dot", "difference"] == pytest.approx(0, abs=1e-12)
    assert table["score_seconds"].isna().tolist() == [True, False, True]


def test_repeats_give_a_ceiling_and_groups_are_scored(truth, fitted):
    noise = np.random.default_rng(0).standard_normal(truth.outputs.shape) * 0.01
    twice = np.concatenate([truth.outputs, truth.outputs + noise], axis=1)
    seeds = np.zeros(twice.shape[:2], dtype=int)
    repeated = SubsetOutputs(truth.masks, twice, seeds)
    groups = np.arange(len(TRAIN[0])) % 10
    grouped = GroupAttributor(InfluenceFunction()).fit(MODEL, *TRAIN, groups=groups)
    table = compare({"rows": fitted["influence"], "groups": grouped}, repeated, *QUERY)
    assert table["noise_ceiling"].between(0.5, 1).all()
    assert table["score"].between(-1, 1).all()


def test_an_output_that_was_not_measured_is_refused_but_random_scores_have_none(truth, fitted):
    margins = SubsetOutputs(truth.masks, truth.outputs, truth.seeds, output="margin")
    with pytest.raises(ValueError, match="output='margin' of the retrained models"):
        compare(fitted, margins, *QUERY)
    assert len(compare({"random": fitted["random"]}, margins, *QUERY)) == 1


def test_errors(truth, fitted):
    with pytest.raises(TypeError, match="attributors: got list; accepted is a dict"):
        compare(list(fitted.values()), truth, *QUERY)
    with pytest.raises(
        TypeError, match="attributors: got dict; accepted is a dict of at least one"
    ):
        compare({}, truth, *QUERY)
    with pytest.raises(NotFittedError, match=r"attributors\['new'\].* give model, X and y"):
        compare({"new": InfluenceFunction()}, truth, *QUERY)
    with pytest.raises(TypeError, match="ground_truth: got ndarray"):
        compare(fitted, truth.outputs, *QUERY)
    with pytest.raises(ValueError, match=r"reference: got 'dott'.*Did you mean 'dot'\?"):
        compare(fitted, truth, *QUERY, reference="dott")
    with pytest.raises(ValueError, match=r"50 training rows and 9 queries|subset_outputs: has"):
        compare(fitted, truth, X[:3], Y[:3])
    broken = SubsetOutputs(truth.masks, np.full_like(truth.outputs, np.nan), truth.seeds)
    with pytest.raises(ValueError, match=r"SubsetOutputs\.diverged"):
        compare(fitted, broken, *QUERY)
