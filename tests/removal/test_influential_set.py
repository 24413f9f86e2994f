"""The smallest set of rows that changes a model's answer, against all sets and refits."""

from itertools import combinations

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor, Ridge
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from influencekit import InfluenceFunction
from influencekit.exceptions import UnsupportedModelError
from influencekit.groups import DemographicParityDifference

EXACT = {"solver": "newton-cholesky", "tol": 1e-10, "max_iter": 1000}
B, L = load_breast_cancer(return_X_y=True)
B = ((B - B.mean(0)) / B.std(0))[:, :6]
B, L, Q = B[:150], L[:150], B[150:200]


def logistic(X=B, y=L):
    return LogisticRegression(**EXACT).fit(X, y)


def without(rows, X=B, y=L):
    return logistic(np.delete(X, rows, 0), np.delete(y, rows))


def least_squares(X, t, rows=()):
    """Coefficients by the normal equations, the intercept last."""
    kept = np.setdiff1d(np.arange(len(X)), rows)
    D = np.c_[X, np.ones(len(X))][kept]
    return np.linalg.solve(D.T @ D, D.T @ t[kept])


def masked():
    """Two rows far out, side by side: each hides what the other does to the slope."""
    rng = np.random.default_rng(0)
    x = np.r_[rng.normal(size=16), 12.0, 12.2]
    return x[:, None], np.r_[x[:16] + 0.5 * rng.normal(size=16), -5.0, -1.0]


def test_a_masked_pair_is_found_where_single_scores_miss_it():
    X, t = masked()
    slopes = {pair: least_squares(X, t, pair)[0] for pair in combinations(range(18), 2)}
    assert max(slopes, key=slopes.get) == (16, 17)
    influence = InfluenceFunction(output="coef").fit(LinearRegression().fit(X, t), X, t)
    for order in ("first", "leverage"):
        single = InfluenceFunction(output="coef", removal_order=order)
        scores = single.fit(LinearRegression().fit(X, t), X, t).score([0])[0]
        assert set(np.argsort(scores)[:2]) != {16, 17}
    found = influence.most_influential_set(0, k=2, opponents=True, n_random=0)
    assert set(found.rows) == {16, 17}
    assert found.refitted == pytest.approx(slopes[16, 17])
    assert set(influence.most_influential_set(0, until=0.9, n_random=0).rows) == {16, 17}


@pytest.mark.parametrize("k", [2, 3])
def test_sets_of_least_squares_are_the_best_of_all(k):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        X, q = rng.normal(size=(12, 2)), rng.normal(size=2)
        t = X @ [1.0, 0.5] + rng.normal(size=12)
        predictions = [np.r_[q, 1] @ least_squares(X, t, s) for s in combinations(range(12), k)]
        fitted = InfluenceFunction(output="prediction").fit(LinearRegression().fit(X, t), X, t)
        for opponents, best in ((False, min(predictions)), (True, max(predictions))):
            found = fitted.most_influential_set(q[None], k=k, opponents=opponents, n_random=0)
            assert found.refitted == pytest.approx(best)


def test_a_class_flips_with_the_smallest_set():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(16, 2))
    y = (X[:, 0] + rng.logistic(size=16) > 0).astype(int)
    model = logistic(X, y)
    w, sizes = model.coef_[0], []
    for z in (-0.5, 0.2, 0.6):  # a row whose score is z
        q = ((z - model.intercept_[0]) * w / (w @ w))[None]
        found = InfluenceFunction().fit(model, X, y).most_influential_set(q, until="flip")
        assert found.reached and without(found.rows, X, y).predict(q) != model.predict(q)
        sizes.append(len(found.rows))
        for smaller in combinations(range(16), sizes[-1] - 1):
            assert without(list(smaller), X, y).predict(q) == model.predict(q)
    assert max(sizes) == 2


def test_the_refitted_number_is_that_of_a_refit():
    z = logistic().decision_function(Q)
    query = int(np.abs(z).argmin())
    influence = InfluenceFunction(output="margin").fit(logistic(), B, L)
    found = influence.most_influential_set(Q[[query]], until="flip")
    assert found.reached and found.n_refits > 0
    sign = np.sign(z[query])
    assert found.before == pytest.approx(abs(z[query]), abs=1e-5)
    refit = sign * without(found.rows).decision_function(Q[[query]])[0]
    assert found.refitted == pytest.approx(refit, abs=1e-5)
    assert np.sign(found.predicted) == np.sign(found.refitted) == -1


def test_three_classes_flip():
    X, y = load_iris(return_X_y=True)
    model = logistic(X, y)
    query = int(np.sort(model.predict_proba(X), 1)[:, -1].argmin())
    influence = InfluenceFunction().fit(model, X, y)
    found = influence.most_influential_set(X[[query]], until="flip", n_random=9)
    own = model.predict(X[[query]])
    assert found.reached and without(found.rows, X, y).predict(X[[query]]) != own


def test_a_property_crosses_its_threshold():
    people = np.where(Q[:, 0] > 0, "a", "b")

    def gap(model):
        p = model.predict_proba(Q)[:, 1]
        return abs(p[people == "a"].mean() - p[people == "b"].mean())

    influence = InfluenceFunction().fit(logistic(), B, L)
    people_of = DemographicParityDifference(people)
    level = gap(logistic()) - 0.02
    found = influence.most_influential_set(Q, until=level, property=people_of, n_random=0)
    assert found.before == pytest.approx(gap(logistic()), abs=1e-6)
    assert found.reached and found.refitted == pytest.approx(gap(without(found.rows)), abs=1e-6)
    assert gap(without(found.rows)) < level < gap(without(found.rows[:-1]))


def test_the_p_value_counts_random_sets():
    X = np.random.default_rng(1).normal(size=(60, 1))
    t = X[:, 0] + 0.1 * np.random.default_rng(2).normal(size=60)
    t[7] -= 30  # no other row comes near it
    model = LinearRegression().fit(X, t)
    influence = InfluenceFunction(output="coef", random_state=0).fit(model, X, t)
    found = influence.most_influential_set(0, k=1, opponents=abs(model.coef_[0]) < 1, n_random=49)
    drawn = influence.most_influential_set(0, k=1, opponents=model.coef_[0] > 1, n_random=49)
    assert min(found.p_value, drawn.p_value) >= 1 / 50
    assert influence.most_influential_set(0, k=7, n_random=0).p_value == 1


def test_counts_are_searched_too():
    X = np.random.default_rng(0).normal(size=(80, 3))
    t = np.random.default_rng(1).poisson(np.exp(X[:, 0]))
    model = PoissonRegressor(alpha=0, **EXACT).fit(X, t)
    influence = InfluenceFunction(output="coef").fit(model, X, t)
    level = model.coef_[0] * 0.9
    found = influence.most_influential_set(0, until=level)
    refit = PoissonRegressor(alpha=0, **EXACT)
    refit.fit(np.delete(X, found.rows, 0), np.delete(t, found.rows))
    assert found.reached and refit.coef_[0] < level
    assert found.refitted == pytest.approx(refit.coef_[0], abs=1e-6)


def test_rows_keep_their_places_weights_and_pipeline():
    weights = np.random.default_rng(0).uniform(0.5, 2, len(B))
    weights[:40] = 0
    pipe = make_pipeline(StandardScaler(), LogisticRegression(**EXACT))
    pipe.fit(B, L, logisticregression__sample_weight=weights)
    influence = InfluenceFunction().fit(pipe, B, L, sample_weight=weights)
    found = influence.most_influential_set(Q[:1], k=4)
    assert found.rows.min() >= 40
    kept = np.setdiff1d(np.arange(len(B)), found.rows)
    refit = LogisticRegression(**EXACT).fit(pipe[0].transform(B)[kept], L[kept], weights[kept])
    p = refit.predict_log_proba(pipe[0].transform(Q[:1]))[0, pipe.predict(Q[:1])[0]]
    assert found.refitted == pytest.approx(p, abs=1e-6)


def test_a_row_alone_in_its_level_or_class_is_never_taken():
    X = np.c_[np.random.default_rng(0).normal(size=30), np.arange(30) == 4].astype(float)
    t = X @ [1.0, 50.0] + np.random.default_rng(1).normal(size=30)
    influence = InfluenceFunction(output="coef").fit(LinearRegression().fit(X, t), X, t)
    assert 4 not in influence.most_influential_set(1, k=5).rows
    y = (np.arange(30) == 9).astype(int)
    lone = InfluenceFunction().fit(logistic(X, y), X, y).most_influential_set(X[9:10], k=3)
    assert 9 not in lone.rows
    wide = np.c_[np.eye(10), np.ones(10)]
    model = LinearRegression(fit_intercept=False).fit(wide, t[:10])
    influence = InfluenceFunction(output="coef").fit(model, wide, t[:10])
    with pytest.raises(ValueError, match="Fit the model with a penalty"):
        influence.most_influential_set(0, k=1)


def test_what_is_not_reached_says_so():
    influence = InfluenceFunction(output="coef").fit(Ridge().fit(B, L), B, L)
    found = influence.most_influential_set(0, until=1e6, max_rows=3, n_random=0)
    assert found.reached is False and len(found.rows) == 3


def test_what_cannot_be_asked_is_refused():
    influence = InfluenceFunction().fit(logistic(), B, L)
    ask = influence.most_influential_set
    with pytest.raises(ValueError, match="accepted is one of the two"):
        ask(Q[:1])
    with pytest.raises(ValueError, match="Did you mean 'flip'"):
        ask(Q[:1], until="flop")
    with pytest.raises(ValueError, match="accepted are a number and 'flip'"):
        ask(Q[:1], until=True)
    with pytest.raises(ValueError, match="got 50 examples; accepted is one"):
        ask(Q, k=3)
    with pytest.raises(ValueError, match="k: got 150; accepted are integers from 1 to 149"):
        ask(Q[:1], k=150)
    with pytest.raises(ValueError, match="'flip' with a property"):
        ask(Q, until="flip", property=lambda z, _: z.mean())
    with pytest.raises(ValueError, match="one finite number"):
        ask(Q, until=1.0, property=lambda z, _: z)
    fitted = InfluenceFunction().fit(Ridge().fit(B, L), B, L)
    with pytest.raises(ValueError, match="a regression model"):
        fitted.most_influential_set(Q[:1], until="flip")
    net = MLPClassifier((3,), solver="lbfgs", max_iter=500, random_state=0).fit(B, L)
    of_net = InfluenceFunction(damping=1.0).fit(net, B, L)
    with pytest.raises(UnsupportedModelError, match="last layer"):
        of_net.most_influential_set(Q[:1], k=1)
