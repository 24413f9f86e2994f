"""SurrogateLambdaSearchCV: the path, the pick, its two forms, its warnings."""

from typing import ClassVar

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, ShuffleSplit

from influencekit import BaseAttributor, GradDot, InfluenceFunction, SurrogateLambdaSearchCV
from influencekit.exceptions import LambdaPathWarning
from influencekit.gradients import GradientEngine, loss_cotangent


class DenseFisher(BaseAttributor):
    """Empirical-Fisher influence that shows nothing but scores: no path, no eigenvalues."""

    _parameter_constraints: ClassVar[dict] = {}

    def __init__(self, damping=1e-3):
        self.damping = damping

    def _fit(self, task, train):
        self._engine = GradientEngine(task)
        self._gradients = self._engine.matrix(train, loss_cotangent(task)).numpy()

    def _score(self, queries):
        g, n = self._gradients, len(self._gradients)
        q = self._engine.matrix(queries, loss_cotangent(self.task_)).numpy()
        kernel = g.T @ g / n + self.damping * np.eye(g.shape[1])
        return q @ np.linalg.solve(kernel, g.T) / n


@pytest.fixture(scope="module")
def problem():
    X, y = load_digits(n_class=4, return_X_y=True)
    X = X[:, ::3] / 16
    model = LogisticRegression(C=np.inf, max_iter=50, tol=1e-2).fit(X[:150], y[:150])
    return model, X[:150], y[:150], X[150:190], y[150:190]


def fit(problem, attributor=None, queries=True, **options):
    model, X, y, X_query, y_query = problem
    attributor = InfluenceFunction("fisher") if attributor is None else attributor
    search = SurrogateLambdaSearchCV(attributor, random_state=0, **options)
    given = {"X_query": X_query, "y_query": y_query} if queries else {}
    return search.fit(model, X, y, **given)


@pytest.mark.filterwarnings("ignore::influencekit.exceptions.NotStationaryWarning")
class TestSearch:
    def test_pick_is_nearest_to_the_threshold(self, problem):
        for threshold in (0.37, 0.5, 0.8):
            search = fit(problem, threshold=threshold)
            results = search.cv_results_
            gap = np.abs(results["mean_xi"] - threshold)
            assert search.best_index_ == gap.argmin()
            assert search.best_params_["damping"] == results["param_damping"][gap.argmin()]
            assert results["rank_test_score"][search.best_index_] == 1
            np.testing.assert_array_equal(results["mean_test_score"], -gap)
            assert search.best_score_ == results["mean_test_score"].max()
            assert search.best_attributor_.damping_ == search.best_params_["damping"]

    def test_a_larger_threshold_takes_a_larger_damping(self, problem):
        picks = [fit(problem, threshold=t).best_params_["damping"] for t in (0.3, 0.5, 0.7)]
        assert picks == sorted(picks)
        assert picks[0] < picks[-1]

    def test_scores_are_those_of_the_attributor_at_the_pick(self, problem):
        model, X, y, X_query, y_query = problem
        search = fit(problem)
        alone = InfluenceFunction("fisher", **search.best_params_).fit(model, X, y)
        np.testing.assert_allclose(
            search.score(X_query, y_query), alone.score(X_query, y_query), rtol=1e-10
        )

    def test_results_average_the_folds(self, problem):
        search = fit(problem, cv=4)
        results = search.cv_results_
        splits = np.stack([results[f"split{i}_xi"] for i in range(4)])
        assert "split4_xi" not in results
        np.testing.assert_allclose(results["mean_xi"], splits.mean(0))
        np.testing.assert_allclose(results["std_xi"], splits.std(0))
        assert len(search.split_dampings_) == 4
        assert results["std_xi"].max() > 0

    def test_folds_are_of_the_queries(self, problem):
        model, X, y, X_query, y_query = problem
        search = fit(problem, cv=KFold(2))
        path = search.best_attributor_.damping_path(X_query, y_query)
        xi = path.xi(search.cv_results_["param_damping"])
        np.testing.assert_allclose(search.cv_results_["split0_xi"], xi[:, :20].mean(1))
        np.testing.assert_allclose(search.cv_results_["split1_xi"], xi[:, 20:].mean(1))

    def test_splitters_and_one_fold(self, problem):
        assert len(fit(problem, cv=ShuffleSplit(3, random_state=0)).split_dampings_) == 3
        assert len(fit(problem, cv=5, n_queries=1).split_dampings_) == 1

    def test_queries_come_from_the_training_data_when_none_are_given(self, problem):
        near = fit(problem, queries=False).best_params_["damping"]
        far = fit(problem).best_params_["damping"]
        assert abs(np.log10(near / far)) <= 0.5  # measured: the same half decade

    def test_forms_agree_for_the_empirical_fisher(self, problem):
        dampings = np.geomspace(1e-4, 1e-1, 7)
        spectral = fit(problem, dampings=dampings, cv=3)
        vectors = fit(problem, DenseFisher(), dampings=dampings, cv=3)
        assert (spectral.xi_form_, vectors.xi_form_) == ("spectral", "score_vectors")
        np.testing.assert_allclose(
            vectors.cv_results_["mean_xi"], spectral.cv_results_["mean_xi"], rtol=1e-4
        )
        assert vectors.best_params_ == spectral.best_params_

    def test_no_crossing_is_told(self, problem):
        with pytest.warns(LambdaPathWarning, match="never crosses threshold=0.5"):
            search = fit(problem, dampings=[1e-7, 1e-6])
        assert search.n_crossings_ == 0

    def test_several_crossings_are_told(self, problem, monkeypatch):
        def jagged(fitted, queries, dampings):
            return np.array([[0.1], [0.7], [0.2], [0.9]]).repeat(len(queries), axis=1)

        monkeypatch.setattr("influencekit.selection._surrogate.spectral_xi", jagged)
        with pytest.warns(LambdaPathWarning, match="crosses 3 times"):
            search = fit(problem, dampings=[1e-3, 1e-2, 1e-1, 1.0])
        assert search.n_crossings_ == 3

    def test_undefined_queries_are_left_out_and_counted(self, problem, monkeypatch):
        def partly(fitted, queries, dampings):
            xi = np.linspace(0.1, 0.9, len(dampings))[:, None].repeat(len(queries), axis=1)
            xi[:, 3] = np.nan
            return xi

        monkeypatch.setattr("influencekit.selection._surrogate.spectral_xi", partly)
        search = fit(problem, dampings=[1e-3, 1e-2, 1e-1])
        assert search.n_undefined_ == 1
        np.testing.assert_allclose(search.cv_results_["mean_xi"], [0.1, 0.5, 0.9])

    def test_auto_path_reaches_both_ends(self, problem):
        mean = fit(problem).cv_results_["mean_xi"]
        assert mean[0] < 0.3
        assert mean[-1] > 0.95

    def test_attributor_is_not_fitted_or_changed(self, problem):
        attributor = InfluenceFunction("fisher")
        fit(problem, attributor)
        assert attributor.damping == "auto"
        assert not hasattr(attributor, "damping_")

    def test_no_damping_to_choose(self, problem):
        with pytest.raises(ValueError, match="GradDot has no parameter 'damping'"):
            fit(problem, GradDot())
