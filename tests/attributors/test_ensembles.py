"""Several models: scores are averaged, each model with its own preprocessing and damping."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from influencekit import (
    GradCos,
    GradDot,
    InfluenceFunction,
    LDSSearch,
    SurrogateLambdaSearchCV,
    retrain_on_subsets,
)
from influencekit.exceptions import LambdaPathWarning, UnsupportedModelError
from influencekit.models import load_checkpoints
from tests._shared.tables import shuffled_iris, split


@pytest.fixture(scope="module")
def data():
    rows = split(*shuffled_iris(), 90, 20)
    models = [
        make_pipeline(scaler, LogisticRegression(C=C, max_iter=2000)).fit(*rows[:2])
        for scaler, C in ((StandardScaler(), 1.0), (MinMaxScaler(), 5.0))
    ]
    return models, *rows


@pytest.mark.parametrize(
    "attributor", [GradDot(), GradCos(), InfluenceFunction(), InfluenceFunction("fisher", 1e-2)]
)
def test_scores_are_the_mean_over_models(data, attributor):
    models, X, y, Xq, yq = data
    single = [attributor.fit(model, X, y).score(Xq, yq) for model in models]
    selves = [attributor.fit(model, X, y).self_influence() for model in models]
    attributor.fit(models, X, y)
    np.testing.assert_allclose(attributor.score(Xq, yq), np.mean(single, axis=0), rtol=1e-9)
    np.testing.assert_allclose(attributor.self_influence(), np.mean(selves, axis=0), rtol=1e-9)
    top, values = attributor.top_k(Xq, yq, k=3)
    expected = np.sort(np.mean(single, axis=0), axis=1)[:, ::-1][:, :3]
    np.testing.assert_allclose(values, expected, rtol=1e-9)
    assert top.shape == (20, 3)


def test_each_model_has_its_own_automatic_damping(data):
    models, X, y, _, _ = data
    alone = [InfluenceFunction("fisher").fit(model, X, y).damping_ for model in models]
    np.testing.assert_allclose(InfluenceFunction("fisher").fit(models, X, y).damping_, alone)


def test_set_damping_leaves_copies_alone(data):
    import copy

    models, X, y, Xq, yq = data
    fitted = InfluenceFunction("fisher", 1e-2).fit(models, X, y)
    before = fitted.score(Xq, yq)
    other = copy.copy(fitted).set_damping(1.0)
    fresh = InfluenceFunction("fisher", 1.0).fit(models, X, y)
    np.testing.assert_allclose(other.score(Xq, yq), fresh.score(Xq, yq))
    np.testing.assert_array_equal(fitted.score(Xq, yq), before)


def test_damping_path_averages_over_models(data):
    models, X, y, Xq, yq = data
    fitted = InfluenceFunction("fisher", 1e-2).fit(models, X, y)
    path = fitted.damping_path(Xq, yq)
    np.testing.assert_allclose(path.scores(1e-2), fitted.score(Xq, yq), rtol=1e-9)
    masks = np.random.RandomState(0).rand(5, len(X)) < 0.5
    sums = path.subset_sums(masks).at([1e-2, 1e-1])
    np.testing.assert_allclose(sums[0], path.scores(1e-2) @ masks.T, rtol=1e-9)
    np.testing.assert_allclose(sums[1], path.scores(1e-1) @ masks.T, rtol=1e-9)
    own = [InfluenceFunction("fisher").fit(m, X, y).damping_path(Xq, yq).xi([1e-2]) for m in models]
    np.testing.assert_allclose(path.xi([1e-2]), np.mean(own, axis=0))


def test_one_damping_is_chosen_for_all_models(data):
    models, X, y, Xq, yq = data
    dampings = np.geomspace(1e-5, 1e1, 13)
    search = SurrogateLambdaSearchCV(
        InfluenceFunction("fisher"), dampings, criterion="xi", random_state=0
    )
    with pytest.warns(LambdaPathWarning, match="convex objective"):
        search.fit(models, X, y, X_query=Xq, y_query=yq)
    damping = search.best_params_["damping"]
    xi = search.best_attributor_.damping_path(Xq, yq).xi(dampings).mean(axis=1)
    assert damping == dampings[np.abs(xi - 0.5).argmin()]
    fresh = InfluenceFunction("fisher", damping).fit(models, X, y)
    np.testing.assert_allclose(search.score(Xq, yq), fresh.score(Xq, yq))


def test_lds_search_over_models(data):
    models, X, y, Xq, yq = data
    truth = retrain_on_subsets(models[0], X, y, Xq, yq, n_subsets=8, random_state=0)
    search = LDSSearch(InfluenceFunction("fisher"), n_trials=4, random_state=0)
    search.fit(models, X, y, X_query=Xq, y_query=yq, subset_outputs=truth)
    fresh = InfluenceFunction("fisher", **search.best_params_).fit(models, X, y)
    np.testing.assert_allclose(search.score(Xq, yq), fresh.score(Xq, yq))


def test_random_projections_differ_between_members(data):
    models, X, y, _, _ = data
    same = [models[0], models[0]]
    fitted = InfluenceFunction("fisher", 1e-2, projection_dim=6, random_state=0).fit(same, X, y)
    first, second = (one.eigenvalues for one in fitted.fitted_)
    assert not np.allclose(first, second)
    again = InfluenceFunction("fisher", 1e-2, projection_dim=6, random_state=0).fit(same, X, y)
    np.testing.assert_array_equal(fitted.eigenvalues_, again.eigenvalues_)


def test_models_of_other_classes_are_refused(data):
    models, X, y, _, _ = data
    two = LogisticRegression(max_iter=1000).fit(X[y < 2], y[y < 2])
    with pytest.raises(UnsupportedModelError, match=r"item 1 of the list is a classification"):
        GradDot().fit([models[0], two], X, y)


class TestCheckpoints:
    """State dicts and files of them, with nothing unpickled."""

    def nets(self, n=2):
        torch.manual_seed(0)
        return [torch.nn.Linear(4, 3) for _ in range(n)]

    def test_states_and_files_are_the_models(self, data, tmp_path):
        _, X, y, Xq, yq = data
        X, Xq = X.astype(np.float32), Xq.astype(np.float32)
        nets, loss = self.nets(), torch.nn.CrossEntropyLoss()
        torch.save(nets[1].state_dict(), tmp_path / "last.pt")
        tasks = load_checkpoints(nets[0], [nets[0].state_dict(), tmp_path / "last.pt"], loss)
        expected = [
            GradDot().fit(load_checkpoints(n, [n.state_dict()], loss)[0], X, y).score(Xq, yq)
            for n in nets
        ]
        found = GradDot().fit(tasks, X, y).score(Xq, yq)
        np.testing.assert_allclose(found, np.mean(expected, axis=0), rtol=1e-6)

    def test_pickled_objects_are_not_run(self, tmp_path):
        torch.save(self.nets(1)[0], tmp_path / "whole.pt")
        with pytest.raises(Exception, match=r"[Ww]eights only"):
            load_checkpoints(self.nets(1)[0], [tmp_path / "whole.pt"], torch.nn.MSELoss())

    def test_other_architecture_is_refused(self):
        state = torch.nn.Linear(2, 2).state_dict()
        with pytest.raises(ValueError, match="checkpoints: item 0 is not a state dict of Linear"):
            load_checkpoints(self.nets(1)[0], [state], torch.nn.MSELoss())
