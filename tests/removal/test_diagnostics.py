"""All diagnostics in one table: equal to statsmodels, and to refits where it has none."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import (
    GammaRegressor,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
    TweedieRegressor,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from influencekit import influence_diagnostics
from influencekit.displays import InfluencePlotDisplay
from influencekit.exceptions import LeverageWarning, UnsupportedModelError

X, Y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
X, Y = X.iloc[:150].set_index(np.arange(150) + 7), Y.iloc[:150].set_axis(np.arange(150) + 7)
Z = (X - X.mean()) / X.std()
LABELS = (Y > 140).astype(int)
TIGHT = {"C": np.inf, "solver": "newton-cholesky", "tol": 1e-12, "max_iter": 1000}


def assert_same(table, reference):
    for name, column in reference.rename(columns={"dfb_const": "dfb_Intercept"}).items():
        np.testing.assert_allclose(table[name], column, rtol=1e-8, atol=1e-8, err_msg=name)
    assert list(table.index) == list(reference.index)


def test_least_squares_has_the_numbers_of_statsmodels():
    reference = sm.OLS(Y, sm.add_constant(X)).fit().get_influence().summary_frame()
    assert_same(influence_diagnostics(LinearRegression().fit(X, Y), X, Y), reference)


def test_least_squares_without_an_intercept():
    reference = sm.OLS(Y, X).fit().get_influence().summary_frame()
    table = influence_diagnostics(LinearRegression(fit_intercept=False).fit(X, Y), X, Y)
    assert_same(table, reference)
    assert "dfb_Intercept" not in table


def test_logistic_regression_has_the_numbers_of_statsmodels():
    fitted = sm.GLM(LABELS, sm.add_constant(Z), family=sm.families.Binomial()).fit(tol=1e-14)
    model = LogisticRegression(**TIGHT).fit(Z, LABELS)
    assert_same(influence_diagnostics(model, Z, LABELS), fitted.get_influence().summary_frame())


GLM = {"alpha": 0.0, "solver": "newton-cholesky", "tol": 1e-12, "max_iter": 1000}
LOG = sm.families.links.Log()


@pytest.mark.parametrize(
    ("model", "family"),
    [
        (PoissonRegressor(**GLM), sm.families.Poisson()),
        (GammaRegressor(**GLM), sm.families.Gamma(LOG)),
        (TweedieRegressor(power=1.5, **GLM), sm.families.Tweedie(LOG, var_power=1.5)),
    ],
)
def test_generalized_linear_models_have_the_numbers_of_statsmodels(model, family):
    counts = Y.round()
    fitted = sm.GLM(counts, sm.add_constant(Z), family=family).fit(tol=1e-14, maxiter=200)
    table = influence_diagnostics(model.fit(Z, counts), Z, counts)
    assert_same(table, fitted.get_influence(observed=True).summary_frame())


def test_the_deviance_without_a_row_is_that_of_a_refit():
    table = influence_diagnostics(LinearRegression().fit(X, Y), X, Y)
    for j in (0, 70):
        without = sm.OLS(Y.drop(Y.index[j]), sm.add_constant(X.drop(X.index[j]))).fit()
        change = sm.OLS(Y, sm.add_constant(X)).fit().ssr - without.ssr
        assert table["d_deviance"].iloc[j] == pytest.approx(change, rel=1e-8)


def test_ridge_changes_its_coefficients_as_refits_do():
    model = Ridge(3.0).fit(Z, Y)
    table = influence_diagnostics(model, Z, Y)
    D = np.c_[Z, np.ones(len(Z))]
    penalty = np.diag([3.0] * Z.shape[1] + [0.0])
    inverse = np.linalg.inv(D.T @ D + penalty)
    hat = np.einsum("ij,jk,ik->i", D, inverse, D)
    np.testing.assert_allclose(table["hat_diag"], hat, rtol=1e-8)
    left = Y - model.predict(Z)
    ssr, df = (left**2).sum(), len(Y) - hat.sum()
    for j in (0, 99):
        kept = np.arange(len(Y)) != j
        changed = model.coef_ - Ridge(3.0).fit(Z[kept], Y[kept]).coef_
        spread = np.sqrt((ssr - left.iloc[j] ** 2 / (1 - hat[j])) / (df - 1))
        expected = changed / (spread * np.sqrt(np.diag(inverse)[:-1]))
        got = table.filter(like="dfb_").drop(columns="dfb_Intercept").iloc[j]
        np.testing.assert_allclose(got, expected, rtol=1e-7)


def test_sample_weights_are_those_of_weighted_least_squares():
    weights = np.random.default_rng(0).uniform(0.5, 3, len(X))
    reference = sm.WLS(Y, sm.add_constant(X), weights=weights).fit()
    model = LinearRegression().fit(X, Y, sample_weight=weights)
    table = influence_diagnostics(model, X, Y, sample_weight=weights)
    D = sm.add_constant(X).to_numpy() * np.sqrt(weights)[:, None]
    np.testing.assert_allclose(table["hat_diag"], (D * np.linalg.pinv(D).T).sum(1), rtol=1e-8)
    scaled = reference.wresid / np.sqrt(reference.scale * (1 - table["hat_diag"]))
    np.testing.assert_allclose(table["standard_resid"], scaled, rtol=1e-8)


def test_a_pipeline_names_the_coefficients_of_its_last_step():
    scaler = StandardScaler().set_output(transform="pandas")
    table = influence_diagnostics(make_pipeline(scaler, LinearRegression()).fit(X, Y), X, Y)
    own = influence_diagnostics(LinearRegression().fit(X, Y), X, Y)
    assert list(table) == list(own) and "dfb_bmi" in table
    pd.testing.assert_series_equal(table["cooks_d"], own["cooks_d"])


def test_a_pipeline_names_columns_that_a_step_reorders():
    order = make_column_transformer((StandardScaler(), ["s5"]), remainder="passthrough")
    model = make_pipeline(order, LinearRegression()).fit(X, Y)
    table, own = (
        influence_diagnostics(model, X, Y),
        influence_diagnostics(LinearRegression().fit(X, Y), X, Y),
    )
    np.testing.assert_allclose(table["dfb_standardscaler__s5"], own["dfb_s5"], rtol=1e-7)
    np.testing.assert_allclose(table["dfb_remainder__age"], own["dfb_age"], rtol=1e-7)


def test_a_constant_column_has_no_change():
    table = influence_diagnostics(LinearRegression().fit(X, Y), X, Y)
    more = X.assign(one=1.0)
    found = influence_diagnostics(LinearRegression().fit(more, Y), more, Y)
    assert found["dfb_one"].isna().all()
    pd.testing.assert_frame_equal(found.drop(columns="dfb_one"), table, rtol=1e-8)


def test_a_row_that_is_alone_in_its_level_is_named():
    lone = X.assign(level=np.arange(150) == 3)
    with pytest.warns(LeverageWarning, match="have a leverage of 1"):
        table = influence_diagnostics(LinearRegression().fit(lone, Y), lone, Y)
    assert np.isnan(table["cooks_d"].iloc[3]) and table["cooks_d"].drop(10).notna().all()


def test_several_classes_are_refused():
    A, t = load_iris(return_X_y=True)
    with pytest.raises(UnsupportedModelError, match="one model for each class"):
        influence_diagnostics(LogisticRegression(max_iter=1000).fit(A, t), A, t)


def test_a_picture_names_the_rows_that_matter():
    table = influence_diagnostics(LinearRegression().fit(X, Y), X, Y)
    display = InfluencePlotDisplay.from_predictions(table, most=3)
    drawn = np.asarray(display.points_.get_offsets())
    np.testing.assert_allclose(drawn, table[["hat_diag", "student_resid"]])
    names = [text.get_text() for text in display.ax_.texts]
    assert names == [str(i) for i in table["cooks_d"].nlargest(3).index]
    with pytest.raises(ValueError, match="table: got a DataFrame without"):
        InfluencePlotDisplay(table[["hat_diag"]])


def test_as_many_columns_as_rows_leave_no_dispersion():
    wide = np.random.default_rng(0).normal(size=(8, 12))
    with pytest.warns(LeverageWarning) as caught:
        table = influence_diagnostics(LinearRegression().fit(wide, Y[:8]), wide, Y[:8])
    assert len(caught) == 1
    assert table["standard_resid"].isna().all() and np.allclose(table["hat_diag"], 1)
