"""Removals of rows and groups, against refits and Newton steps in numpy."""

import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from influencekit import InfluenceFunction, LDSSearch
from influencekit.exceptions import LeverageWarning, UnsupportedModelError
from influencekit.groups import DemographicParityDifference, GroupAttributor

RNG = np.random.default_rng(0)
A, T = load_diabetes(return_X_y=True, scaled=False)
A, T, QA = A[:80], T[:80], A[80:90]
B, L = load_breast_cancer(return_X_y=True)
B = (B - B.mean(0))[:, :8] / B.std(0)[:8]
B, L, QB, UB = B[:120], L[:120], B[120:140], L[120:140]
GROUPS = RNG.integers(0, 6, 120)
EXACT = {"solver": "newton-cholesky", "tol": 1e-10, "max_iter": 1000}


def logistic():
    return LogisticRegression(**EXACT).fit(B, L)


def newton_step(rows):
    """Coefficients after one Newton step without some rows, intercept last, C = 1."""
    m = logistic()
    D, theta = np.c_[B, np.ones(len(B))], np.r_[m.coef_[0], m.intercept_]
    p = 1 / (1 + np.exp(-D @ theta))
    kept = np.ones(len(B), bool)
    kept[rows] = False
    R = np.diag([1.0] * B.shape[1] + [0.0])
    H = (D[kept] * (p * (1 - p))[kept, None]).T @ D[kept] + R
    return theta - np.linalg.solve(H, D[kept].T @ (p - L)[kept] + R @ theta)


def log_likelihoods(theta):
    z = np.c_[QB, np.ones(len(QB))] @ theta
    return -np.logaddexp(0, -np.where(UB == 1, z, -z))


@pytest.mark.parametrize("order", ["leverage", "newton"])
@pytest.mark.parametrize("model", [LinearRegression(), Ridge(5.0), Ridge(5.0, fit_intercept=False)])
def test_rows_of_least_squares_are_removed_exactly(model, order):
    model.fit(A, T)
    influence = InfluenceFunction(output="prediction", removal_order=order).fit(model, A, T)
    changes = []
    before = model.predict(QA)
    for j in range(len(A)):
        kept = np.arange(len(A)) != j
        changes.append(before - type(model)(**model.get_params()).fit(A[kept], T[kept]).predict(QA))
    np.testing.assert_allclose(influence.score(QA), np.stack(changes, 1), rtol=1e-6, atol=1e-8)


def test_rows_of_logistic_regression_are_removed_by_one_newton_step():
    influence = InfluenceFunction(removal_order="newton").fit(logistic(), B, L)
    before = log_likelihoods(np.r_[logistic().coef_[0], logistic().intercept_])
    expected = [before - log_likelihoods(newton_step([j])) for j in range(len(B))]
    np.testing.assert_allclose(influence.score(QB, UB), np.stack(expected, 1), atol=1e-7)


def test_several_classes_are_removed_by_one_newton_step():
    X, y = load_iris(return_X_y=True)
    m = LogisticRegression(**EXACT).fit(X, y)
    refits = []
    for j in range(0, 150, 10):
        kept = np.arange(150) != j
        refits.append(LogisticRegression(**EXACT).fit(X[kept], y[kept]).predict_log_proba(X[:9]))
    change = m.predict_log_proba(X[:9])[:, 0] - np.stack(refits)[:, :, 0]
    found = {}
    for order in ("first", "newton"):
        scores = InfluenceFunction(removal_order=order).fit(m, X, y).score(X[:9], y[:9])
        found[order] = np.abs(scores[:, ::10] - change.T).max() / np.abs(change).max()
    assert found["newton"] < 0.1 < 2 * found["newton"] + 0.1 and found["newton"] < found["first"]


@pytest.mark.parametrize("given", ["mean_neg_loss", None])
def test_groups_are_removed_by_one_newton_step(given):
    groups = GroupAttributor(InfluenceFunction(), property=given, removal_order="newton")
    scores = groups.fit(logistic(), B, L, groups=GROUPS).score(QB, UB)
    before = log_likelihoods(np.r_[logistic().coef_[0], logistic().intercept_])
    expected = np.stack(
        [before - log_likelihoods(newton_step(np.flatnonzero(g == GROUPS))) for g in range(6)], 1
    )
    expected = expected if given is None else expected.mean(0, keepdims=True)
    np.testing.assert_allclose(scores, expected, atol=1e-7)


def test_a_gap_is_evaluated_without_each_group():
    people = np.where(QB[:, 0] > 0, "a", "b")
    gap = GroupAttributor(
        InfluenceFunction(removal_order="newton"), property=DemographicParityDifference(people)
    ).fit(logistic(), B, L, groups=GROUPS)

    def measured(theta):
        p = 1 / (1 + np.exp(-np.c_[QB, np.ones(len(QB))] @ theta))
        return abs(p[people == "a"].mean() - p[people == "b"].mean())

    before = measured(np.r_[logistic().coef_[0], logistic().intercept_])
    expected = [before - measured(newton_step(np.flatnonzero(g == GROUPS))) for g in range(6)]
    np.testing.assert_allclose(gap.score(QB, UB)[0], expected, atol=1e-7)
    assert gap.property_value_ == pytest.approx(before)


def test_leverage_sums_over_the_rows_of_a_group():
    rows = InfluenceFunction(removal_order="leverage").fit(logistic(), B, L).score(QB, UB)
    of = GroupAttributor(InfluenceFunction(), removal_order="leverage")
    scores = of.fit(logistic(), B, L, groups=GROUPS).score(QB, UB)
    np.testing.assert_allclose(scores, np.stack([rows[:, g == GROUPS].sum(1) for g in range(6)], 1))


@pytest.mark.parametrize("order", ["first", "newton"])
def test_coefficients_by_name(order):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(A, columns=[f"c{i}" for i in range(10)])
    model = Ridge(2.0).fit(frame, T)
    influence = InfluenceFunction(output="coef", removal_order=order, damping=0)
    scores = influence.fit(model, frame, T).score(["c3", "Intercept"])
    np.testing.assert_array_equal(scores, influence.score([3, -1]))
    without = Ridge(2.0).fit(frame[1:], T[1:])
    change = [model.coef_[3] - without.coef_[3], model.intercept_ - without.intercept_]
    D = np.c_[A, np.ones(len(A))]
    hat = D[0] @ np.linalg.solve(D.T @ D + np.diag([2.0] * 10 + [0.0]), D[0])
    factor = 1 - hat if order == "first" else 1
    np.testing.assert_allclose(scores[:, 0], np.array(change) * factor, rtol=1e-6)
    with pytest.raises(ValueError, match="Did you mean 'Intercept'"):
        influence.score(["Intercpt"])


def test_rows_with_a_high_leverage_are_named():
    lone = np.c_[A, np.arange(len(A)) == 5]
    model = LinearRegression().fit(lone, T)
    influence = InfluenceFunction(output="prediction").fit(model, lone, T)
    with pytest.warns(LeverageWarning, match=r"2\.5% of the training rows .* 'newton'"):
        influence.score(lone[:2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        even = np.random.default_rng(0).normal(size=(80, 3))
        assert (even * np.linalg.pinv(even).T).sum(1).max() < 0.4
        model = LinearRegression().fit(even, T)
        InfluenceFunction(output="prediction").fit(model, even, T).score(even[:2])
        for other in ("fisher", "ekfac"):  # whose products are no leverages
            InfluenceFunction(other).fit(LinearRegression().fit(lone, T), lone, T).score(lone, T)


LONE = np.c_[B, np.arange(len(B)) == 5].astype(float)
ONCE = LogisticRegression(C=1e4, **EXACT).fit(LONE, L)


@pytest.mark.parametrize(
    "ask",
    [
        lambda f: f.score(LONE[:2], L[:2]),
        lambda f: f.top_k(LONE[:2], L[:2], k=3),
        lambda f: f.transform(LONE[:2], L[:2]),
    ],
)
def test_every_list_of_scores_warns_of_leverage_once(ask):
    influence = InfluenceFunction().fit(ONCE, LONE, L)
    with pytest.warns(LeverageWarning, match="logistic|LogisticRegression"):
        ask(influence)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ask(influence)


def test_groups_warn_of_leverage_unless_they_are_removed_exactly():
    groups = np.where(np.arange(len(B)) == 5, "alone", "others")
    first = GroupAttributor(InfluenceFunction(output="margin"))
    with pytest.warns(LeverageWarning, match="to first order"):
        first.fit(ONCE, LONE, L, groups=groups).score(LONE[:2], L[:2])
    for order in ("leverage", "newton"):
        exact = GroupAttributor(InfluenceFunction(output="margin"), removal_order=order)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            exact.fit(ONCE, LONE, L, groups=groups).score(LONE[:2], L[:2])


@pytest.mark.parametrize("output", ["prediction", "coef"])
def test_exact_orders_name_rows_without_which_the_model_is_not_determined(output):
    lone = np.c_[A, np.arange(len(A)) == 5]
    model = LinearRegression().fit(lone, T)
    exact = InfluenceFunction(output=output, removal_order="newton").fit(model, lone, T)
    asked = [10] if output == "coef" else lone[:7]
    with pytest.warns(LeverageWarning, match=r"1\.2% of the training rows have a leverage of 1"):
        scores = exact.score(asked)
    assert np.abs(scores[-1, 5] if output == "coef" else scores[5, 5]) < 1e-6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exact.score(asked)


def test_a_model_that_goes_through_all_rows_is_at_its_optimum():
    wide, t = RNG.normal(size=(20, 30)), RNG.normal(size=20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        influence = InfluenceFunction(output="prediction")
        influence.fit(LinearRegression().fit(wide, t), wide, t)
    with pytest.warns(LeverageWarning, match=r"100\.0%"):
        influence.score(wide[:2])


def test_the_warning_begins_at_a_leverage_of_one_half():
    """A row alone in its level has 1 / (1 + α) of it under a penalty α."""
    X = np.zeros((40, 2))
    X[0, 0], X[1:, 1] = 1.0, np.random.default_rng(0).normal(size=39)
    for alpha, warned in ((0.9, True), (1.1, False)):
        model = Ridge(alpha, fit_intercept=False).fit(X, T[:40])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            InfluenceFunction(output="prediction").fit(model, X, T[:40]).score(X[:1])
        assert [w.category for w in caught] == [LeverageWarning] * warned


def test_nets_and_other_curvatures_are_refused():
    net = MLPClassifier((4,), max_iter=5, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net.fit(B, L)
        with pytest.raises(UnsupportedModelError, match="last layer"):
            InfluenceFunction(removal_order="newton", damping=1.0).fit(net, B, L)
    with pytest.raises(ValueError, match="accepted is curvature='ggn'"):
        InfluenceFunction("fisher", removal_order="newton").fit(logistic(), B, L)


@pytest.mark.filterwarnings("ignore::influencekit.exceptions.LambdaPathWarning")  # two trials
def test_there_is_no_damping_path_beyond_first_order():
    influence = InfluenceFunction(removal_order="newton").fit(logistic(), B, L)
    assert not hasattr(influence, "damping_path")
    search = LDSSearch(InfluenceFunction(removal_order="newton"), n_trials=2, n_subsets=4)
    search.fit(logistic(), B, L, X_query=QB, y_query=UB)
    assert search.best_score_ > 0


def test_a_pipeline_removes_rows_as_its_last_step_does():
    pipe = make_pipeline(StandardScaler(), Ridge(1.0)).fit(A, T)
    S = pipe[0].transform(A)
    own = InfluenceFunction(output="prediction", removal_order="newton").fit(pipe[-1], S, T)
    got = InfluenceFunction(output="prediction", removal_order="newton").fit(pipe, A, T)
    np.testing.assert_allclose(got.score(QA), own.score(pipe[0].transform(QA)))


@pytest.mark.parametrize("n_classes", [2, 3])
def test_leverages_of_sparse_rows_are_those_of_the_hat_matrix(n_classes):
    # levels of one row, of two, of five and of many: leverages on both sides of one half
    sizes = [1] * 6 + [2] * 8 + [5] * 6 + [120] * 2
    X = sparse.csr_array(np.eye(len(sizes))[np.repeat(np.arange(len(sizes)), sizes)])
    labels = RNG.integers(0, n_classes, X.shape[0])
    model = LogisticRegression(C=30.0, fit_intercept=False, **EXACT | {"solver": "lbfgs"})
    model.fit(X, labels)
    P, dense = model.predict_proba(X), X.toarray()
    roots = [np.linalg.cholesky(np.diag(p) - np.outer(p, p) + 1e-15 * np.eye(len(p))) for p in P]
    if n_classes == 2:  # one output
        roots = [np.sqrt(p[:1, None] * p[1:, None]) for p in P]
    rows = [np.kron(root, x[:, None]) for root, x in zip(roots, dense, strict=True)]
    hessian = sum(r @ r.T for r in rows) + np.eye(len(rows[0])) / 30
    pulls = [
        np.linalg.lstsq(root, (p - np.eye(len(p))[k])[-len(root) :], rcond=None)[0]
        for root, p, k in zip(roots, P, labels, strict=True)
    ]
    along = [
        (r @ c) @ np.linalg.solve(hessian, r @ c) / (c @ c)
        for r, c in zip(rows, pulls, strict=True)
    ]
    share = np.mean(np.array(along) > 0.5)
    assert 0 < share < 0.2
    with pytest.warns(LeverageWarning, match=rf"^{share:.1%} of"):
        InfluenceFunction(damping=0.0).fit(model, X, labels).score(X[:2], labels[:2])


def newton_of_classes(X, y, model, rows):
    """Coefficients after a Newton step without rows; solvers' intercepts sum to 0. C = 1."""
    D, k = np.c_[X, np.ones(len(X))], len(model.classes_)
    theta = np.c_[model.coef_, model.intercept_]
    p = model.predict_proba(X)
    kept = np.ones(len(X), bool)
    kept[rows] = False
    R = np.kron(np.eye(k), np.diag([1.0] * X.shape[1] + [0.0]))
    slopes = ((p - np.eye(k)[y])[kept].T @ D[kept]).ravel() + R @ theta.ravel()
    S = np.einsum("ia,ab->iab", p, np.eye(k)) - p[:, :, None] * p[:, None, :]
    H = np.einsum("iab,ic,id->acbd", S[kept], D[kept], D[kept]).reshape(theta.size, -1) + R
    moved = theta - np.linalg.lstsq(H, slopes, rcond=1e-12)[0].reshape(theta.shape)
    moved[:, -1] -= moved[:, -1].mean()
    return moved


def test_what_all_classes_share_stays_as_solvers_leave_it():
    X, y = load_iris(return_X_y=True)
    X = X * [1, 10, 0.1, 1]
    model = LogisticRegression(**EXACT).fit(X, y)
    rows = np.arange(0, 150, 8)
    moved = newton_of_classes(X, y, model, rows)
    found = InfluenceFunction().fit(model, X, y).predict_without(rows, X[:9], refit=False)
    np.testing.assert_allclose(found.intercept, moved[:, -1], atol=1e-7)
    logits = np.c_[X[:9], np.ones(9)] @ moved.T
    influence = InfluenceFunction(output="logit", removal_order="newton")
    groups = GroupAttributor(influence).fit(model, X, y, groups=np.isin(np.arange(150), rows))
    expected = model.decision_function(X[:9])[:, 0] - logits[:, 0]
    np.testing.assert_allclose(groups.score(X[:9], y[:9])[:, 1], expected, atol=1e-7)
    names = InfluenceFunction(output="coef", removal_order="newton").fit(model, X, y)
    alone = model.intercept_ - newton_of_classes(X, y, model, [7])[:, -1]
    np.testing.assert_allclose(names.score(["Intercept"])[:, 7], alone, atol=1e-7)


@pytest.mark.parametrize("weights", [None, RNG.uniform(0.2, 3, 80)])
def test_self_influence_is_the_change_of_a_rows_own_loss(weights):
    model = Ridge(5.0).fit(A, T, sample_weight=weights)
    w = np.ones(80) if weights is None else weights
    Z = np.c_[A - w @ A / w.sum(), np.ones(80)]
    R = np.diag([5.0] * A.shape[1] + [0.0])
    hat = w * np.einsum("ij,jk,ik->i", Z, np.linalg.inv((Z.T * w) @ Z + R), Z)
    residuals = T - model.predict(A)
    # the row's own error without it is r / (1 - h)
    expected = (residuals / (1 - hat)) ** 2 - residuals**2
    newton = InfluenceFunction(removal_order="newton").fit(model, A, T, sample_weight=weights)
    np.testing.assert_allclose(newton.self_influence(), expected, rtol=1e-7)
    np.testing.assert_allclose(np.diag(newton.score(A, T)), expected, rtol=1e-7)
