"""LDSSearch and lds_scorer: one ground truth, shared factorizations, Optuna's study."""

import warnings
from dataclasses import replace

import numpy as np
import optuna
import pytest
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge

from influencekit import (
    GradDot,
    InfluenceFunction,
    LDSSearch,
    SurrogateLambdaSearchCV,
    lds_scorer,
    retrain_on_subsets,
)
from influencekit.attributors.influence._fitted_influence import FittedInfluence
from influencekit.exceptions import LambdaPathWarning
from influencekit.metrics import UndefinedCorrelationWarning, linear_datamodeling_score
from influencekit.selection._space import STANDARD_ERROR, trial_results
from tests._shared.problems import digits_problem


@pytest.fixture(scope="module")
def problem():
    return digits_problem(LogisticRegression(C=10.0, max_iter=500), 120, 30)


@pytest.fixture(scope="module")
def truth(problem):
    return retrain_on_subsets(*problem, n_subsets=16, random_state=0)


def fit(problem, truth, attributor=None, **options):
    model, X, y, X_query, y_query = problem
    attributor = InfluenceFunction("fisher") if attributor is None else attributor
    options = {"n_trials": 8, "random_state": 0, **options}
    search = LDSSearch(attributor, **options)
    return search.fit(model, X, y, X_query=X_query, y_query=y_query, subset_outputs=truth)


def lds(truth, scores):
    return linear_datamodeling_score(truth.outputs, truth.masks, scores).mean


def test_every_trial_is_the_lds_of_its_parameters(problem, truth):
    model, X, y, X_query, y_query = problem
    search = fit(problem, truth, n_trials=5)
    assert len(search.study_.trials) == 5
    for trial in search.study_.trials:
        fitted = InfluenceFunction("fisher", **trial.params).fit(model, X, y)
        expected = lds(truth, fitted.score(X_query, y_query))
        assert trial.value == pytest.approx(expected, abs=1e-9)


def test_cv_results_are_the_trials(problem, truth):
    search = fit(problem, truth, n_trials=5)
    results, trials = search.cv_results_, search.study_.trials
    np.testing.assert_array_equal(results["mean_test_score"], [trial.value for trial in trials])
    drawn = [trial.params.get("damping", 0.0) for trial in trials]  # one trial is without damping
    assert drawn.count(0.0) == 1
    np.testing.assert_array_equal(results["param_damping"], drawn)
    assert results["param_damping"].dtype == float
    best = int(np.argmin(results["rank_test_score"]))
    assert results["params"][best] == search.best_params_
    assert results["se_test_score"][best] == pytest.approx(search.lds_.standard_error)
    assert sorted(results["rank_test_score"])[0] == 1


def test_results_of_trials_that_differ_or_failed():
    states = optuna.trial.TrialState
    floats = optuna.distributions.FloatDistribution(0, 1)
    names = optuna.distributions.CategoricalDistribution(["a", "b"])
    trials = [
        optuna.trial.create_trial(params={"x": 0.5}, distributions={"x": floats}, value=0.25),
        optuna.trial.create_trial(
            params={"x": 0.1, "kind": "b"}, distributions={"x": floats, "kind": names}, value=0.5
        ),
        optuna.trial.create_trial(
            params={"x": 0.2},
            distributions={"x": floats},
            state=states.FAIL,
            user_attrs={STANDARD_ERROR: np.nan},  # judged, without a number
        ),
        optuna.trial.create_trial(  # killed before it was judged
            params={"x": 0.2}, distributions={"x": floats}, state=states.FAIL
        ),
        optuna.trial.create_trial(
            params={"x": 0.3}, distributions={"x": floats}, state=states.RUNNING
        ),
    ]
    results = trial_results(trials)
    assert results["rank_test_score"].tolist() == [2, 1, 3]
    assert results["param_kind"].mask.tolist() == [True, False, True]
    assert results["param_kind"][1] == "b"
    assert results["param_x"].tolist() == [0.5, 0.1, 0.2]
    assert np.isnan(results["mean_test_score"][2])


def test_a_pair_is_no_range(problem, truth):
    with pytest.raises(TypeError, match=r"FloatDistribution\(0.1, 1.0, log=True\).*\[0.1, 1.0\]"):
        fit(problem, truth, search_space={"damping": (0.1, 1.0)})


def test_bad_choice_is_one_error_without_a_log(problem, truth, capsys):
    with pytest.raises(ValueError, match="curvature"):
        fit(problem, truth, search_space={"curvature": ["no such"]}, n_trials=1)
    assert "Traceback" not in capsys.readouterr().err


def test_best_is_kept_and_never_below_the_default(problem, truth):
    model, X, y, X_query, y_query = problem
    search = fit(problem, truth, n_trials=6)
    values = [trial.value for trial in search.study_.trials]
    default = InfluenceFunction("fisher").fit(model, X, y)
    assert search.cv_results_["param_damping"][0] == default.damping_ == 0
    assert search.best_score_ == max(values)
    assert search.best_score_ >= lds(truth, default.score(X_query, y_query)) - 1e-9
    assert search.best_attributor_.damping_ == search.best_params_["damping"]
    assert lds(truth, search.score(X_query, y_query)) == pytest.approx(search.best_score_)
    assert search.lds_.mean == pytest.approx(search.best_score_)


def test_ground_truth_is_computed_once_and_reused(problem, truth, monkeypatch):
    model, X, y, X_query, y_query = problem
    calls = []

    def counting(*args, **kwargs):
        calls.append(kwargs["n_subsets"])
        return retrain_on_subsets(*args, **kwargs)

    monkeypatch.setattr("influencekit.selection._lds_search.retrain_on_subsets", counting)
    search = LDSSearch(InfluenceFunction("fisher"), n_subsets=16, n_trials=4, random_state=0)
    search.fit(model, X, y, X_query=X_query, y_query=y_query)
    assert calls == [16]
    np.testing.assert_array_equal(search.subset_outputs_.outputs, truth.outputs)
    fit(problem, search.subset_outputs_)
    assert calls == [16]


def test_trials_that_differ_in_damping_share_one_factorization(problem, truth, monkeypatch):
    count = {"fit": 0, "score": 0}
    fitting, scoring = InfluenceFunction._fit, FittedInfluence.scores

    def counted(name, method):
        def call(self, *args):
            count[name] += 1
            return method(self, *args)

        return call

    monkeypatch.setattr(InfluenceFunction, "_fit", counted("fit", fitting))
    monkeypatch.setattr(FittedInfluence, "scores", counted("score", scoring))
    fit(problem, truth, n_trials=12)
    assert count == {"fit": 1, "score": 0}


def test_search_space_of_several_parameters(problem, truth):
    space = {
        "curvature": ["ggn", "fisher"],
        "damping": optuna.distributions.FloatDistribution(1e-6, 1.0, log=True),
    }
    search = fit(problem, truth, InfluenceFunction(), search_space=space, n_trials=10)
    assert set(search.best_params_) == {"curvature", "damping"}
    assert {t.params["curvature"] for t in search.study_.trials} == {"ggn", "fisher"}
    assert search.best_attributor_.curvature == search.best_params_["curvature"]


def test_searches_nest(problem, truth):
    inner = SurrogateLambdaSearchCV(InfluenceFunction("fisher"), random_state=0)
    space = {"threshold": [0.37, 0.5], "attributor__curvature": ["ggn"]}
    search = fit(problem, truth, inner, search_space=space, n_trials=4)
    assert search.best_attributor_.attributor.curvature == "ggn"
    assert search.best_params_["threshold"] in (0.37, 0.5)


def test_attributor_without_damping_needs_a_space(problem, truth):
    with pytest.raises(ValueError, match="searches 'damping', but GradDot does not have"):
        fit(problem, truth, GradDot())


def test_study_is_continued_in_storage(problem, truth, tmp_path):
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    first = fit(problem, truth, storage=storage, study_name="digits", n_trials=3)
    second = fit(problem, truth, storage=storage, study_name="digits", n_trials=4)
    assert len(second.study_.trials) == 7
    assert second.best_score_ >= first.best_score_


def test_same_seed_same_search(problem, truth):
    a, b = fit(problem, truth), fit(problem, truth)
    assert a.best_params_ == b.best_params_
    assert [t.value for t in a.study_.trials] == [t.value for t in b.study_.trials]


def test_sampler_is_used(problem, truth):
    sampler = optuna.samplers.GridSampler({"damping": [1e-3, 1e-1]})
    space = {"damping": optuna.distributions.FloatDistribution(1e-3, 1e-1)}
    search = fit(problem, truth, sampler=sampler, search_space=space, n_trials=2)
    assert {t.params["damping"] for t in search.study_.trials} == {1e-3, 1e-1}


def test_optuna_log_level_is_left_alone(problem, truth, capsys):
    before = optuna.logging.get_verbosity()
    fit(problem, truth, n_trials=1)
    assert optuna.logging.get_verbosity() == before
    assert "study" not in capsys.readouterr().err


def test_scorer_equals_the_metric(problem, truth):
    model, X, y, X_query, y_query = problem
    scorer = lds_scorer(truth)
    for attributor in (GradDot(), InfluenceFunction()):
        fitted = attributor.fit(model, X, y)
        expected = lds(truth, fitted.score(X_query, y_query))
        assert scorer(fitted, X_query, y_query) == pytest.approx(expected, abs=1e-9)


def test_regression_without_targets_explains_predictions():
    rng = np.random.default_rng(0)
    X, X_query = rng.normal(size=(60, 4)), rng.normal(size=(8, 4))
    y = X @ np.arange(4.0) + rng.normal(size=60)
    search = LDSSearch(InfluenceFunction(), n_subsets=10, n_trials=3, random_state=0)
    search.fit(Ridge().fit(X, y), X, y, X_query=X_query)
    assert search.best_score_ > 0.8  # linear: sums of scores nearly give the retrained outputs


def test_score_does_not_form_the_score_matrix(problem, truth, monkeypatch):
    monkeypatch.setattr(
        InfluenceFunction, "score", lambda *a: pytest.fail("the score matrix was formed")
    )
    fit(problem, truth, n_trials=2)


def test_ground_truth_of_another_output_is_refused(problem, truth):
    with pytest.raises(ValueError, match=r"has output='neg_loss'.*explains 'margin'"):
        fit(problem, truth, InfluenceFunction(output="margin"))
    with pytest.raises(ValueError, match="'output' sets the output that is measured"):
        fit(problem, truth, search_space={"output": ["margin", "neg_loss"]})


def test_ground_truth_follows_the_output_of_a_wrapped_attributor(problem):
    model, X, y, X_query, y_query = problem
    inner = SurrogateLambdaSearchCV(InfluenceFunction("fisher", output="margin"), random_state=0)
    search = LDSSearch(
        inner, {"threshold": [0.45, 0.5]}, n_subsets=8, n_trials=2, random_state=0
    ).fit(model, X, y, X_query=X_query, y_query=y_query)
    assert search.subset_outputs_.output == "margin"


def test_continued_study_draws_new_trials(problem, truth, tmp_path):
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    for _ in range(2):
        search = fit(problem, truth, storage=storage, study_name="digits", n_trials=4)
    drawn = search.cv_results_["param_damping"]
    assert len(set(drawn)) == 8
    assert 0 in drawn


def test_best_attributor_is_the_one_that_was_scored(problem, truth):
    """Fits that left the cache are drawn again with the same random projection."""
    space = {"projection_dim": [4, 5, 6, 7, 8, 9]}
    search = fit(problem, truth, search_space=space, n_trials=12)
    assert search.lds_.mean == pytest.approx(search.best_score_)
    again = fit(problem, truth, search_space=space, n_trials=12)
    assert again.best_score_ == search.best_score_


def test_undefined_lds_is_explained(problem, truth):
    constant = replace(truth, outputs=np.ones_like(truth.outputs))
    with (
        pytest.raises(ValueError, match="LDS is undefined in every trial"),
        pytest.warns(UndefinedCorrelationWarning),
    ):
        fit(problem, constant, n_trials=2)


def test_no_damping_is_found_on_a_raw_table():
    """Its range ends far above what is best, which is 0 (least squares, in any unit)."""
    X, y = load_diabetes(return_X_y=True, scaled=False)
    X, y, Q, u = X[:200], y[:200], X[200:240], y[200:240]
    model = LinearRegression().fit(X, y)
    search = LDSSearch(InfluenceFunction(damping=1.0), n_trials=6, n_subsets=20, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", LambdaPathWarning)
        search.fit(model, X, y, X_query=Q, y_query=u)
    assert search.best_params_ == {"damping": 0.0}
    assert search.best_attributor_.damping_ == 0
    assert search.best_score_ == max(search.cv_results_["mean_test_score"])
    own = InfluenceFunction(damping=0).fit(model, X, y).score(Q, u)
    assert lds(search.subset_outputs_, own) == pytest.approx(search.best_score_)


def test_a_best_damping_at_the_edge_is_told():
    X, y = load_diabetes(return_X_y=True, scaled=False)
    space = {"damping": optuna.distributions.FloatDistribution(1e2, 1e6, log=True)}
    search = LDSSearch(InfluenceFunction(), space, n_trials=25, n_subsets=15, random_state=0)
    model = LinearRegression().fit(X[:200], y[:200])
    with pytest.warns(LambdaPathWarning, match="at the lower edge of the candidates"):
        search.fit(model, X[:200], y[:200], X_query=X[200:240], y_query=y[200:240])
