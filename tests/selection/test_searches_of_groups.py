"""Searches and studies of a GroupAttributor: its inner damping, sums over subsets, refusals."""

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from influencekit import (
    TRAK,
    GradDot,
    InfluenceFunction,
    LDSSearch,
    SensitivityStudy,
    SurrogateLambdaSearchCV,
    lds_scorer,
    retrain_on_subsets,
)
from influencekit.damping._grid import damping_name
from influencekit.groups import GroupAttributor, LabelGrouper, RandomGrouper
from influencekit.selection._space import drawn

# models at the optimum of a convex objective, where ξ alone is warned of
pytestmark = pytest.mark.filterwarnings("ignore:.*Use criterion='auto'")

X, Y = (a[::2] for a in load_iris(return_X_y=True))
X_QUERY, Y_QUERY = (a[1::9] for a in load_iris(return_X_y=True))
QUERIES = {"X_query": X_QUERY, "y_query": Y_QUERY}
MODEL = LogisticRegression(max_iter=1000).fit(X, Y)
NOISY = (Y + np.random.default_rng(2).integers(0, 2, len(Y))) % 2
#: The group form leaves a model's penalty out.
UNPENALIZED = LogisticRegression(C=np.inf, max_iter=2000).fit(X, NOISY)
LABELS = np.random.default_rng(0).integers(0, 12, len(X))
KINDS = {
    "sums": {},
    "means": {"reduce": "mean"},
    "group form": {"curvature": "groups"},
    "means of the group form": {"curvature": "groups", "reduce": "mean"},
}


def grouped(inner=None, grouper=None, **options):
    inner = InfluenceFunction("fisher") if inner is None else inner
    return GroupAttributor(inner, LabelGrouper(LABELS) if grouper is None else grouper, **options)


def lds_search(attributor, **options):
    return LDSSearch(attributor, **{"n_subsets": 6, "n_trials": 3, "random_state": 0, **options})


def outputs_by_hand(masks):
    """Log-probability of each query's label after retraining, (n_subsets, n_query)."""
    rows = np.arange(len(Y_QUERY))
    models = [clone(MODEL).fit(X[mask], Y[mask]) for mask in masks]
    return np.stack([model.predict_log_proba(X_QUERY)[rows, Y_QUERY] for model in models])


def lds_by_hand(masks, predicted):
    outputs = outputs_by_hand(masks)
    return np.mean(
        [spearmanr(*pair).statistic for pair in zip(predicted.T, outputs.T, strict=True)]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_trial_is_the_lds_of_retrained_models_and_sums_over_groups(kind):
    options = KINDS[kind]
    search = lds_search(grouped(**options)).fit(MODEL, X, Y, **QUERIES)
    masks = search.subset_outputs_.masks
    for trial in search.study_.trials:
        params = drawn(trial)
        assert list(params) == ["attributor__damping"]
        inner = InfluenceFunction("fisher", params["attributor__damping"])
        if kind == "sums":  # any subset: rows are added
            points = inner.fit(MODEL, X, Y).score(X_QUERY, Y_QUERY)
            sums = np.stack([points[:, mask].sum(1) for mask in masks])
        else:
            scores = grouped(inner, **options).fit(MODEL, X, Y).score(X_QUERY, Y_QUERY)
            times = np.bincount(LABELS) if "reduce" in options else np.ones(12)
            kept = [[g for g in range(12) if mask[g == LABELS].all()] for mask in masks]
            sums = np.stack([(scores * times)[:, groups].sum(1) for groups in kept])
        assert trial.value == pytest.approx(lds_by_hand(masks, sums), abs=1e-9)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "sums"])
def test_subsets_are_of_whole_groups_where_a_group_has_one_score(kind):
    search = lds_search(grouped(**KINDS[kind]), subset_fraction=0.25).fit(MODEL, X, Y, **QUERIES)
    held = np.stack([np.bincount(LABELS[m], minlength=12) for m in search.subset_outputs_.masks])
    assert np.isin(held - np.bincount(LABELS) * (held > 0), 0).all()
    assert ((held > 0).sum(1) == 3).all()


@pytest.mark.filterwarnings("ignore:The chosen damping")  # random groups may choose an end
@pytest.mark.parametrize("random_state", [None, 0, "instance"])
def test_random_groups_are_those_over_which_subsets_were_drawn(random_state):
    random_state = np.random.RandomState(0) if random_state == "instance" else random_state
    attributor = grouped(grouper=RandomGrouper(10), curvature="groups")
    search = lds_search(attributor, random_state=random_state).fit(MODEL, X, Y, **QUERIES)
    labels = search.best_attributor_.labels_
    for mask in search.subset_outputs_.masks:
        assert set(np.bincount(labels[mask], minlength=10) / np.bincount(labels)) <= {0.0, 1.0}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("search", ["surrogate", "cosine", "LDS"])
def test_scores_are_a_fresh_fit_at_the_chosen_damping(kind, search):
    attributor = grouped(**KINDS[kind])
    if search == "LDS":
        found = lds_search(attributor)
    else:
        criterion = "xi" if search == "surrogate" else "cosine"
        found = SurrogateLambdaSearchCV(attributor, criterion=criterion, random_state=0)
    found.fit(MODEL, X, Y, **QUERIES)
    assert found.best_params_ == found.cv_results_["params"][found.best_index_]
    chosen = found.best_params_["attributor__damping"]
    assert chosen == found.cv_results_["param_attributor__damping"][found.best_index_]
    assert found.best_attributor_.damping_ == pytest.approx(chosen)
    fresh = grouped(InfluenceFunction("fisher", chosen), **KINDS[kind]).fit(MODEL, X, Y)
    scores = fresh.score(X_QUERY, Y_QUERY)
    np.testing.assert_allclose(found.score(X_QUERY, Y_QUERY), scores, rtol=1e-7, atol=1e-12)
    np.testing.assert_array_equal(found.get_feature_names_out(), fresh.get_feature_names_out())
    rows, _ = found.top_k(X_QUERY, Y_QUERY, k=2)
    np.testing.assert_array_equal(rows[:, 0], scores.argmax(1))
    again = clone(found.best_attributor_).fit(MODEL, X, Y)  # its parameters are those in use
    np.testing.assert_allclose(again.score(X_QUERY, Y_QUERY), scores, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("inner", [InfluenceFunction("fisher"), TRAK(1e-2, projection_dim=None)])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("criterion", ["xi", "cosine"])
def test_groups_of_one_are_the_search_without_groups(inner, kind, criterion):
    options = {"dampings": np.geomspace(1e-5, 10, 13), "criterion": criterion, "random_state": 0}
    data = UNPENALIZED, X, NOISY
    alone = SurrogateLambdaSearchCV(inner, **options).fit(*data)
    ones = GroupAttributor(inner, **KINDS[kind])
    found = SurrogateLambdaSearchCV(ones, **options).fit(*data)
    mean = f"mean_{criterion}"
    np.testing.assert_allclose(found.cv_results_[mean], alone.cv_results_[mean], rtol=1e-6)
    assert found.best_params_["attributor__damping"] == alone.best_params_["damping"]
    np.testing.assert_allclose(found.score(X_QUERY), alone.score(X_QUERY), rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("inner", [InfluenceFunction("cg"), TRAK(1e-2, projection_dim=None)])
@pytest.mark.parametrize("reduce", ["sum", "mean"])
@pytest.mark.filterwarnings("ignore::influencekit.exceptions.LambdaPathWarning")  # few dampings
def test_the_indicator_of_sums_is_that_of_rows_without_a_path_too(inner, reduce):
    options = {"dampings": [1e-3, 1e-2, 1e-1], "n_queries": 10, "random_state": 0}
    alone = SurrogateLambdaSearchCV(inner, **options).fit(MODEL, X, Y)
    found = SurrogateLambdaSearchCV(grouped(inner, reduce=reduce), **options).fit(MODEL, X, Y)
    assert found.xi_form_ == alone.xi_form_
    expected = alone.cv_results_["mean_xi"]
    np.testing.assert_allclose(found.cv_results_["mean_xi"], expected, rtol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_groups_of_one_are_the_lds_search_without_groups(kind):
    alone = lds_search(InfluenceFunction("fisher"), search_space={"damping": [0.1, 1.0]})
    space = {"attributor__damping": [0.1, 1.0]}
    attributor = GroupAttributor(InfluenceFunction("fisher"), **KINDS[kind])
    ones = lds_search(attributor, search_space=space)
    queries = {"X_query": X_QUERY, "y_query": Y_QUERY % 2}
    alone.fit(UNPENALIZED, X, NOISY, **queries)
    ones.fit(UNPENALIZED, X, NOISY, **queries)
    np.testing.assert_array_equal(ones.subset_outputs_.masks, alone.subset_outputs_.masks)
    assert ones.best_score_ == pytest.approx(alone.best_score_, abs=1e-9)
    assert ones.best_params_["attributor__damping"] == alone.best_params_["damping"]


@pytest.mark.parametrize("form", ["sum", "mean"])
def test_xi_of_the_group_form_is_that_of_its_own_matrix(form):
    """Softmax regression by hand: gradients, sums over groups, matrix, ξ and sums of scores."""
    fitted = grouped(InfluenceFunction("fisher", 0.1), curvature="groups", fisher_form=form)
    fitted.fit(MODEL, X, Y)

    def gradients(x, y):
        residual = MODEL.predict_proba(x) - np.eye(3)[y]
        return np.einsum("ni,nj->nij", residual, np.c_[x, np.ones(len(x))]).reshape(len(x), -1)

    sums = np.stack([gradients(X, Y)[g == LABELS].sum(0) for g in range(12)])
    size = np.bincount(LABELS)[:, None] if form == "mean" else 1.0
    matrix = (sums / size).T @ sums / len(X)
    v, damping = -gradients(X_QUERY, Y_QUERY), 0.03

    def t(k):
        power = np.linalg.matrix_power(np.linalg.inv(matrix + damping * np.eye(15)), k)
        return np.einsum("qi,ij,jk,qk->q", v, matrix, power, v)

    path = fitted.damping_path(X_QUERY, Y_QUERY)
    np.testing.assert_allclose(path.xi([damping])[0], t(2) / np.sqrt(t(1) * t(3)), rtol=1e-6)
    scores = -v @ np.linalg.solve(matrix + damping * np.eye(15), sums.T / len(X))
    np.testing.assert_allclose(path.scores(damping), scores, rtol=1e-6, atol=1e-9)
    some = np.random.default_rng(1).random((4, 12)) < 0.5
    np.testing.assert_allclose(path.subset_sums(some).at(damping), scores @ some.T, rtol=1e-5)


@pytest.mark.parametrize("kernel", ["output", "loss"])
def test_the_path_over_groups_is_their_scores(kernel):
    trak = TRAK(0.1, projection_dim=None)
    fitted = grouped(trak, curvature="groups", trak_kernel=kernel).fit(MODEL, X, Y)
    path = fitted.damping_path(X_QUERY, Y_QUERY)
    some = np.random.default_rng(1).random((4, 12)) < 0.5
    for damping in (1e-3, 1.0):
        scores = fitted.set_damping(damping).score(X_QUERY, Y_QUERY)
        np.testing.assert_allclose(path.scores(damping), scores, rtol=1e-6, atol=1e-9)
        sums = path.subset_sums(some).at([damping])
        np.testing.assert_allclose(sums, [scores @ some.T], rtol=1e-6, atol=1e-8)


TRUTH = retrain_on_subsets(MODEL, X, Y, X_QUERY, Y_QUERY, n_subsets=6, random_state=0)


def test_scorer_adds_rows_without_a_path_too():
    scorer = lds_scorer(TRUTH)
    for inner in (GradDot(), InfluenceFunction("fisher")):
        expected = scorer(clone(inner).fit(MODEL, X, Y), X_QUERY, Y_QUERY)
        found = scorer(grouped(inner).fit(MODEL, X, Y), X_QUERY, Y_QUERY)
        assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "sums"])
def test_parted_groups_are_refused(kind, monkeypatch):
    attributor = grouped(**KINDS[kind])
    with pytest.raises(ValueError, match="subset_outputs: 6 of 6 subsets split groups"):
        lds_scorer(TRUTH)(clone(attributor).fit(MODEL, X, Y), X_QUERY, Y_QUERY)
    monkeypatch.setattr(InfluenceFunction, "fit", None)
    with pytest.raises(ValueError, match="subset_outputs: 6 of 6 subsets split groups"):
        lds_search(attributor).fit(MODEL, X, Y, **QUERIES, subset_outputs=TRUTH)


def test_a_study_has_the_inner_damping_as_an_axis():
    masks = (np.random.default_rng(0).permuted(np.arange(12) < 6 * np.ones((6, 1)), axis=1))[
        :, LABELS
    ]
    truth = retrain_on_subsets(MODEL, X, Y, X_QUERY, Y_QUERY, masks=masks)
    other = LogisticRegression(C=0.1, max_iter=1000).fit(X, Y)
    grid = {"attributor__damping": ["auto", 0.01, 1.0], "n_models": [1, 2]}
    study = SensitivityStudy({kind: (grouped(**KINDS[kind]), grid) for kind in KINDS})
    study.fit([MODEL, other], X, Y, X_QUERY, Y_QUERY, subset_outputs=truth)
    assert (study.results_["error"] == "").all()
    scorer = lds_scorer(truth)
    for row in study.results_.itertuples():
        inner = InfluenceFunction("fisher", row.attributor__damping)
        attributor = grouped(inner, **KINDS[row.attributor])
        fitted = attributor.fit([MODEL, other][: row.n_models], X, Y)
        assert row.lds == pytest.approx(scorer(fitted, X_QUERY, Y_QUERY), abs=1e-9)


def test_a_search_in_a_study_is_made_for_each_number_of_models():
    study = SensitivityStudy(
        (SurrogateLambdaSearchCV(grouped(), random_state=0), {"n_models": [1, 2]}), random_state=0
    )
    other = LogisticRegression(C=0.1, max_iter=1000).fit(X, Y)
    study.fit([MODEL, other], X, Y, X_QUERY, Y_QUERY, subset_outputs=TRUTH)
    assert (study.results_["error"] == "").all()


def test_ensembles():
    models = [MODEL, LogisticRegression(C=0.1, max_iter=1000).fit(X, Y)]
    for options in KINDS.values():
        search = SurrogateLambdaSearchCV(grouped(**options), random_state=0).fit(models, X, Y)
        inner = InfluenceFunction("fisher", search.best_params_["attributor__damping"])
        each = [grouped(inner, **options).fit(m, X, Y).score(X_QUERY, Y_QUERY) for m in models]
        found = search.score(X_QUERY, Y_QUERY)
        np.testing.assert_allclose(found, np.mean(each, 0), rtol=1e-6, atol=1e-10)


def test_searches_nest_around_groups():
    inner = SurrogateLambdaSearchCV(grouped(), random_state=0)
    search = lds_search(inner, search_space={"threshold": [0.4, 0.6]})
    search.fit(MODEL, X, Y, **QUERIES)
    found = search.best_attributor_.best_params_["attributor__damping"]
    expected = grouped(InfluenceFunction("fisher", found)).fit(MODEL, X, Y).score(X_QUERY, Y_QUERY)
    np.testing.assert_allclose(search.score(X_QUERY, Y_QUERY), expected, rtol=1e-8)
    assert list(search.get_feature_names_out()) == [str(g) for g in range(12)]


def test_the_damping_is_the_one_that_no_search_chooses():
    surrogate = SurrogateLambdaSearchCV(InfluenceFunction())
    assert damping_name(InfluenceFunction()) == "damping"
    assert damping_name(grouped()) == "attributor__damping"
    for without in (GradDot(), grouped(GradDot()), surrogate, grouped(surrogate)):
        assert damping_name(without) is None


REFUSED = {
    "a property": (lds_search(grouped(property="mean_neg_loss")), "property, one number"),
    "a property, ξ": (
        SurrogateLambdaSearchCV(grouped(property="mean_neg_loss")),
        "property, one number",
    ),
    "a search for queries": (
        lds_search(grouped(lds_search(InfluenceFunction()))),
        "which LDSSearch does not pass on",
    ),
    "a search in a search": (
        lds_search(lds_search(InfluenceFunction())),
        "which LDSSearch does not pass on",
    ),
    "no damping": (lds_search(grouped(GradDot())), "which searches 'damping'"),
    "no damping, ξ": (SurrogateLambdaSearchCV(grouped(GradDot())), "a parameter 'damping'"),
    "groups in groups": (grouped(grouped()), "scores groups already"),
    "groups in a search in groups": (
        grouped(SurrogateLambdaSearchCV(grouped())),
        "scores groups already",
    ),
    "other groups": (
        lds_search(
            grouped(grouper=RandomGrouper(5), curvature="groups"), search_space={"grouper": [None]}
        ),
        "changes the groups",
    ),
    "one group": (
        lds_search(grouped(grouper=RandomGrouper(1), reduce="mean")),
        "subset_fraction: got 0.5 of 1 groups",
    ),
    "an unknown parameter": (
        lds_search(grouped(), search_space={"damping": [1.0]}),
        "does not name",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_means_nothing_is_refused_before_any_work(name, monkeypatch):
    attributor, words = REFUSED[name]
    monkeypatch.setattr(LogisticRegression, "fit", None)
    monkeypatch.setattr(InfluenceFunction, "fit", None)
    queries = {} if isinstance(attributor, GroupAttributor) else QUERIES
    with pytest.raises(ValueError, match=words):
        attributor.fit(MODEL, X, Y, **queries)


@pytest.mark.parametrize("inner", ["property", "search"])
def test_a_study_refuses_them_too(inner, monkeypatch):
    monkeypatch.setattr(InfluenceFunction, "fit", None)
    one = grouped(property="mean_neg_loss") if inner == "property" else lds_search(grouped())
    with pytest.raises(ValueError, match=r"attributors: got.*SensitivityStudy"):
        SensitivityStudy(one).fit(MODEL, X, Y, X_QUERY, Y_QUERY, subset_outputs=TRUTH)
