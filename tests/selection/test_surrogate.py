"""SurrogateLambdaSearchCV: the path, the pick, its two forms, its warnings."""

import contextlib
from typing import ClassVar

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, ShuffleSplit

from influencekit import (
    TRAK,
    BaseAttributor,
    GradDot,
    InfluenceFunction,
    SurrogateLambdaSearchCV,
)
from influencekit.base import Fitted
from influencekit.data import open_examples
from influencekit.exceptions import LambdaPathWarning
from influencekit.gradients import GradientEngine, Gradients, loss_cotangent
from tests._shared.problems import digits_problem
from tests.curvature._dense_reference import surrogate_indicator

# the problem's model is stopped early on purpose, and small: most picks of ξ alone are warned of
pytestmark = [
    pytest.mark.filterwarnings("ignore::influencekit.exceptions.NotStationaryWarning"),
    pytest.mark.filterwarnings("ignore:.*Use criterion='auto'"),
]


class DenseFisher(BaseAttributor):
    """Empirical-Fisher influence that shows nothing but scores: no path, no eigenvalues."""

    _parameter_constraints: ClassVar[dict] = {}

    def __init__(self, damping=1e-3):
        self.damping = damping

    def _fit(self, task, train):
        return FittedFisher(GradientEngine(task), train, self.damping)


class FittedFisher(Fitted):
    def __init__(self, engine, train, damping):
        self.engine, self.damping = engine, damping
        self.gradients = Gradients(engine, train, loss_cotangent(engine.task)).matrix().numpy()

    def scores(self, queries):
        g, n = self.gradients, len(self.gradients)
        q = Gradients(self.engine, queries, loss_cotangent(self.engine.task)).matrix().numpy()
        kernel = g.T @ g / n + self.damping * np.eye(g.shape[1])
        return q @ np.linalg.solve(kernel, g.T) / n


@pytest.fixture(scope="module")
def problem():
    return digits_problem(LogisticRegression(C=np.inf, max_iter=50, tol=1e-2), 150, 40)


def fit(problem, attributor=None, dampings="auto", queries=True, **options):
    model, X, y, X_query, y_query = problem
    attributor = InfluenceFunction("fisher") if attributor is None else attributor
    options = {"criterion": "xi", **options}
    search = SurrogateLambdaSearchCV(attributor, dampings, random_state=0, **options)
    given = {"X_query": X_query, "y_query": y_query} if queries else {}
    return search.fit(model, X, y, **given)


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
        assert len(search.split_dampings_) == search.n_splits_ == 4
        scores = np.stack([results[f"split{i}_test_score"] for i in range(4)])
        np.testing.assert_array_equal(scores, -np.abs(splits - search.threshold_))
        np.testing.assert_array_equal(results["std_test_score"], scores.std(0))
        assert "split4_test_score" not in results
        assert results["std_xi"].max() > 0

    def test_folds_are_of_the_queries(self, problem):
        _model, _X, _y, X_query, y_query = problem
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
        dampings = np.geomspace(1e-5, 1e-1, 9)
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

    @pytest.mark.parametrize(("ends", "side"), [((4e-4, 10), "lower"), ((1e-9, 5e-4), "upper")])
    def test_a_pick_at_the_edge_is_told(self, problem, ends, side):
        threshold = {"lower": 0.6, "upper": 0.5}[side]
        with pytest.warns(LambdaPathWarning, match=f"at the {side} edge of the candidates"):
            search = fit(problem, dampings=ends, threshold=threshold)
        assert search.n_crossings_ == 1

    def test_no_damping_is_a_candidate(self, problem):
        search = fit(problem)
        assert search.cv_results_["param_damping"][0] == 0
        given = fit(problem, dampings=[0.0, 1e-4, 1e-2, 1.0])
        np.testing.assert_allclose(
            given.cv_results_["mean_xi"][0], search.cv_results_["mean_xi"][0]
        )
        vectors = fit(problem, InfluenceFunction("cg", damping=1e-3), dampings=[0.0, 1e-6, 1e-3, 1])
        assert np.isfinite(vectors.cv_results_["mean_xi"]).all()

    def test_the_criterion_in_use_is_not_recommended(self, problem):
        for criterion in ("xi", "cosine"):
            with pytest.warns(LambdaPathWarning, match="denser dampings") as caught:
                fit(problem, dampings=[1e-7, 1e-6], criterion=criterion)
            said = next(str(w.message) for w in caught if w.category is LambdaPathWarning)
            assert ("criterion='cosine'" in said) == (criterion == "xi")

    def test_several_crossings_are_told(self, problem, monkeypatch):
        def jagged(search, fitted, task, train, queries, grid):
            xi = np.array([[0.1], [0.7], [0.2], [0.9]]).repeat(len(queries), axis=1)
            return lambda dampings: xi

        monkeypatch.setattr(SurrogateLambdaSearchCV, "_indicator", jagged)
        with pytest.warns(LambdaPathWarning, match="crosses 3 times.*criterion='auto'"):
            search = fit(problem, dampings=[1e-3, 1e-2, 1e-1, 1.0])
        assert search.n_crossings_ == 3

    def test_undefined_queries_are_left_out_and_counted(self, problem, monkeypatch):
        def partly(search, fitted, task, train, queries, grid):
            xi = np.linspace(0.1, 0.9, 3)[:, None].repeat(len(queries), axis=1)
            xi[:, 3] = np.nan
            return lambda dampings: xi

        monkeypatch.setattr(SurrogateLambdaSearchCV, "_indicator", partly)
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

    @pytest.mark.parametrize("cv", [5, ShuffleSplit(3, random_state=0)])
    def test_refined_pick_is_at_the_threshold(self, problem, cv):
        options = {"cv": cv, "threshold": 0.45, "n_queries": None}
        grid = fit(problem, **options)
        refined = fit(problem, **options, refine=True)
        damping = refined.best_params_["damping"]
        results, best = refined.cv_results_, refined.best_index_
        assert results["mean_xi"][best] == pytest.approx(0.45, abs=1e-3)
        assert abs(grid.best_score_) > 2e-3  # or the test would show nothing
        assert abs(refined.best_score_) < 1e-3
        others = np.delete(np.arange(len(results["mean_xi"])), best)
        for name in ("param_damping", "mean_xi", "std_xi", "split0_xi", "mean_test_score"):
            np.testing.assert_array_equal(results[name][others], grid.cv_results_[name])
        assert refined.best_attributor_.damping_ == damping

    @pytest.mark.parametrize("refine", [False, True])
    @pytest.mark.parametrize("criterion", ["xi", "cosine"])
    @pytest.mark.parametrize(
        ("attributor", "options"),
        [
            (InfluenceFunction("ggn"), {}),
            (InfluenceFunction("fisher"), {"cv": ShuffleSplit(3, random_state=0)}),
            (TRAK(projection_dim=None), {}),
            (DenseFisher(), {"dampings": [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]}),
            ("two models", {"threshold": 0.6}),
            ("never", {"dampings": [1e-7, 1e-6]}),
        ],
    )
    def test_best_is_a_row_of_the_results(self, problem, attributor, options, criterion, refine):
        """As scikit-learn promises, whichever way the pick was found."""
        model, X, y, X_query, y_query = problem
        if attributor == "two models":
            model = [model, clone(model).set_params(C=1.0).fit(X, y)]
        crosses = attributor != "never"
        if isinstance(attributor, str):
            attributor = InfluenceFunction("fisher")
        options = {"criterion": criterion, "refine": refine, "random_state": 0, **options}
        search = SurrogateLambdaSearchCV(attributor, **options)
        with contextlib.nullcontext() if crosses else pytest.warns(LambdaPathWarning):
            search.fit(model, X, y, X_query=X_query, y_query=y_query)
        results, best = search.cv_results_, search.best_index_
        assert search.best_params_ == results["params"][best]
        assert search.best_params_["damping"] == results["param_damping"][best]
        assert search.best_score_ == results["mean_test_score"][best]
        assert np.all(np.diff(results["param_damping"]) > 0)
        assert {len(column) for column in results.values()} == {len(results["params"])}
        order = np.argsort(np.argsort(-results["mean_test_score"], kind="stable"))
        np.testing.assert_array_equal(results["rank_test_score"], order + 1)
        assert results["rank_test_score"][best] == 1 or not crosses
        np.testing.assert_array_equal(
            results["mean_test_score"], -np.abs(results[f"mean_{criterion}"] - search.threshold_)
        )

    def test_refined_row_is_the_indicator_of_its_damping(self, problem):
        """Against dense gradients, fold by fold."""
        _model, X, y, X_query, y_query = problem
        search = fit(problem, cv=KFold(2), refine=True)
        engine = GradientEngine(search.task_)
        g, q = (
            Gradients(engine, open_examples(search.task_, *data), loss_cotangent(search.task_))
            .matrix()
            .numpy()
            for data in ((X, y), (X_query, y_query))
        )
        fisher = g.T @ g / len(g)
        damped = fisher + search.best_params_["damping"] * np.eye(len(fisher))
        xi = surrogate_indicator(q, fisher, np.linalg.inv(damped))
        results, best = search.cv_results_, search.best_index_
        assert best not in (0, len(results["params"]) - 1)
        assert results["split0_xi"][best] == pytest.approx(xi[:20].mean(), rel=1e-6)
        assert results["split1_xi"][best] == pytest.approx(xi[20:].mean(), rel=1e-6)
        assert results["mean_xi"][best] == pytest.approx(0.5, abs=1e-3)

    def test_refined_pick_from_score_vectors(self, problem):
        dampings = np.geomspace(1e-4, 1e-1, 7)
        options = {"dampings": dampings, "threshold": 0.6, "refine": True}
        vectors = fit(problem, DenseFisher(), **options).best_params_["damping"]
        spectral = fit(problem, **options).best_params_["damping"]
        assert vectors not in dampings
        assert vectors == pytest.approx(spectral, rel=5e-3)

    @pytest.mark.parametrize("refine", [False, True])
    @pytest.mark.parametrize("dampings", [[1e-7, 1e-6], [10.0, 100.0]])
    def test_without_a_crossing_the_own_damping_is_taken(self, problem, dampings, refine):
        model, X, y, X_query, y_query = problem
        default = InfluenceFunction("fisher").fit(model, X, y)
        with pytest.warns(LambdaPathWarning, match="never crosses.*own damping") as caught:
            search = fit(problem, dampings=dampings, refine=refine)
        assert {w.filename for w in caught if w.category is LambdaPathWarning} == {__file__}
        assert search.best_params_ == {"damping": default.damping_}
        np.testing.assert_array_equal(
            search.score(X_query, y_query), default.score(X_query, y_query)
        )
        np.testing.assert_array_equal(
            search.cv_results_["param_damping"], np.sort([*dampings, default.damping_])
        )
        assert search.n_crossings_ == 0

    def test_without_a_crossing_other_attributors_keep_their_own(self, problem):
        for attributor, own in (
            (InfluenceFunction("fisher", damping=0.02), 0.02),
            (InfluenceFunction("fisher", damping=0), 0.0),
            (DenseFisher(damping=2e-3), 2e-3),
            (InfluenceFunction("fisher", damping=1e-6), 1e-6),
        ):
            with pytest.warns(LambdaPathWarning, match="never crosses"):
                search = fit(problem, attributor, dampings=[1e-6, 2e-6])
            results = search.cv_results_
            assert search.best_params_ == results["params"][search.best_index_] == {"damping": own}
            assert np.isfinite(results["mean_xi"]).all()
            assert len(results["params"]) == (2 if own == 1e-6 else 3)

    def test_own_damping_of_several_models_is_their_mean(self, problem):
        model, X, y, _X_query, _y_query = problem
        models = [model, clone(model).set_params(C=1.0).fit(X, y)]
        means = [InfluenceFunction("fisher").fit(m, X, y).damping_ for m in models]
        search = SurrogateLambdaSearchCV(
            InfluenceFunction("fisher"), [1e-7, 1e-6], criterion="xi", random_state=0
        )
        with pytest.warns(LambdaPathWarning, match="never crosses"):
            search.fit(models, X, y)
        assert search.best_params_["damping"] == pytest.approx(np.mean(means), rel=1e-12)

    @pytest.mark.parametrize(("criterion", "each"), [("xi", 2), ("cosine", 1)])
    def test_refining_scores_no_damping_twice(self, problem, monkeypatch, criterion, each):
        """Each damping is a fit where there is no path; so is the one that counts as infinite."""
        fitted, fitting = [], DenseFisher._fit
        monkeypatch.setattr(
            DenseFisher, "_fit", lambda s, *a: fitted.append(s.damping) or fitting(s, *a)
        )
        options = {"criterion": criterion, "refine": True, "threshold": 0.6}
        search = fit(problem, DenseFisher(0.7), np.geomspace(1e-4, 1e-1, 7), **options)
        kept = fitted.pop()  # the attributor that is kept is fitted last
        assert kept == search.best_params_["damping"]
        assert len(set(fitted)) == len(fitted) > each * 9
        assert sum(damping > 1e3 for damping in fitted) == 1

    def test_cosine_is_the_angle_to_inner_products(self, problem):
        """Against dense gradients: cosines of J (F + λI)⁻¹ g with J g."""
        _model, X, y, X_query, y_query = problem
        dampings = np.geomspace(1e-4, 1e1, 6)
        search = fit(problem, criterion="cosine", cv=[(None, np.arange(40))], dampings=dampings)
        task = search.task_
        engine = GradientEngine(task)
        g = Gradients(engine, open_examples(task, X, y), loss_cotangent(task)).matrix().numpy()
        q = (
            Gradients(engine, open_examples(task, X_query, y_query), loss_cotangent(task))
            .matrix()
            .numpy()
        )
        plain, kernel = q @ g.T, g.T @ g / len(g)
        for damping, mean in zip(dampings, search.cv_results_["mean_cosine"], strict=True):
            scores = q @ np.linalg.solve(kernel + damping * np.eye(len(kernel)), g.T)
            lengths = np.linalg.norm(scores, axis=1) * np.linalg.norm(plain, axis=1)
            assert mean == pytest.approx(((scores * plain).sum(1) / lengths).mean(), rel=1e-5)

    def test_cosine_rises_for_the_empirical_fisher(self, problem):
        search = fit(problem, criterion="cosine", cv=5)
        for i in range(5):
            assert np.diff(search.cv_results_[f"split{i}_cosine"]).min() > -1e-12
        assert search.n_crossings_ == 1
        assert search.threshold_ == 0.57

    def test_cosine_has_both_forms(self, problem):
        options = {"criterion": "cosine", "dampings": np.geomspace(1e-4, 1e-1, 7)}
        spectral, vectors = fit(problem, **options), fit(problem, DenseFisher(), **options)
        assert (spectral.xi_form_, vectors.xi_form_) == ("spectral", "score_vectors")
        np.testing.assert_allclose(
            vectors.cv_results_["mean_cosine"], spectral.cv_results_["mean_cosine"], rtol=1e-4
        )

    def test_no_damping_to_choose(self, problem):
        with pytest.raises(ValueError, match="GradDot does not have a parameter 'damping'"):
            fit(problem, GradDot())
