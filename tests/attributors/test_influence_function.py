"""InfluenceFunction beside the dense spectra: damping, projection, rows held out, labels."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier
from torch import nn

from influencekit import GradCos, GradDot, InfluenceFunction, as_task
from influencekit.exceptions import (
    HeldOutRowsWarning,
    NotStationaryWarning,
    ProjectionWarning,
    ResourceError,
)
from influencekit.models import resolve_output
from tests._shared.marks import NOT_TRAINED
from tests._shared.nets import TwoLayers
from tests._shared.tables import shuffled_iris, split

#: ``fit_net`` stops after 20 epochs.
pytestmark = NOT_TRAINED


MODULE = {"module__width": 6, "module__activation": nn.ReLU}


@pytest.fixture(scope="module")
def iris():
    X, y = shuffled_iris()
    return split(X.astype(np.float32), y, 120)


def fit_net(X, y, **options):
    torch.manual_seed(0)
    settings = {"lr": 0.1, "max_epochs": 20, "train_split": None, "verbose": 0, **options}
    net = NeuralNetClassifier(TwoLayers, criterion=nn.CrossEntropyLoss, **MODULE, **settings)
    return make_pipeline(StandardScaler(), net).fit(X, y)


def test_rows_held_out_by_skorch_score_zero(iris):
    X, y, X_test, y_test = iris
    torch.manual_seed(0)
    pipe = fit_net(X, y)
    net = NeuralNetClassifier(TwoLayers, criterion=nn.CrossEntropyLoss, lr=0.1, verbose=0, **MODULE)
    held = make_pipeline(StandardScaler(), net).fit(X, y)
    with pytest.warns(HeldOutRowsWarning, match="96 of the 120 rows"):
        attributor = InfluenceFunction().fit(held, X, y)
    scores = attributor.score(X_test, y_test)
    assert scores.shape == (30, 120)
    zero = (scores == 0).all(axis=0)
    assert zero.sum() == 24
    assert (InfluenceFunction().fit(pipe, X, y).score(X_test, y_test) != 0).any(axis=0).all()
    assert set(np.flatnonzero(zero)) == set(range(120)) - set(attributor.train_rows_)
    rows, _ = attributor.top_k(X_test, y_test, k=3)
    assert not zero[rows].any()


def test_set_damping_equals_a_fresh_fit(iris):
    X, y, X_test, y_test = iris
    pipe = fit_net(X, y)
    moved = InfluenceFunction("ggn", damping=1.0).fit(pipe, X, y).set_damping(1e-2)
    fresh = InfluenceFunction("ggn", damping=1e-2).fit(pipe, X, y)
    np.testing.assert_array_equal(moved.score(X_test, y_test), fresh.score(X_test, y_test))
    assert moved.damping == moved.damping_ == 1e-2


@pytest.mark.parametrize("curvature", ["ggn", "fisher"])
def test_default_damping_lies_where_the_cosine_is_057_and_xi_is_03_or_more(iris, curvature):
    X, y, _, _ = iris
    pipe = fit_net(X, y)
    influence = InfluenceFunction(curvature).fit(pipe, X, y)
    scores = influence.score(X, y)
    products = GradDot().fit(pipe, X, y).score(X, y)
    lengths = np.linalg.norm(scores, axis=1) * np.linalg.norm(products, axis=1)
    cosine = (scores * products).sum(1) / lengths
    queries = np.unique(np.linspace(0, len(X) - 1, 100).astype(int))
    xi = influence.damping_path(X[queries], y[queries]).xi(influence.damping_)
    above = cosine[queries].mean() - 0.57, np.nanmean(xi) - 0.3
    assert abs(min(above)) < 0.01


def test_default_damping_of_many_examples_looks_at_some(iris, monkeypatch):
    X, y, _, _ = iris
    pipe = fit_net(X, y)
    monkeypatch.setattr("influencekit.curvature._spectrum.SAMPLE", 31)
    found = InfluenceFunction("fisher").fit(pipe, X, y)
    sizes = np.diag(GradDot().fit(pipe, X, y).score(X, y))
    some = np.sort(np.argsort(sizes)[np.unique(np.linspace(0, len(X) - 1, 31).astype(int))])
    scores = found.score(X[some], y[some])[:, some]
    products = GradDot().fit(pipe, X, y).score(X[some], y[some])[:, some]
    lengths = np.linalg.norm(scores, axis=1) * np.linalg.norm(products, axis=1)
    xi = found.damping_path(X[some], y[some]).xi(found.damping_)
    above = ((scores * products).sum(1) / lengths).mean() - 0.57, np.nanmean(xi) - 0.3
    assert abs(min(above)) < 0.01


def test_default_damping_scales_with_the_loss():
    """Ten times the loss gives a hundred times the Fisher matrix, and a hundred times λ."""
    X, y = load_iris(return_X_y=True)
    net = nn.Linear(4, 3).double()
    X, y = torch.as_tensor(X), torch.as_tensor(y)
    found = []
    for scale in (1.0, 10.0):
        task = as_task(
            net, loss=lambda o, t, s=scale: s * nn.functional.cross_entropy(o, t, reduction="none")
        )
        with pytest.warns(NotStationaryWarning):
            found.append(InfluenceFunction("fisher").fit(task, X, y).damping_)
    assert found[1] / found[0] == pytest.approx(100, rel=1e-6)


def test_penalty_that_lifts_the_cosine_needs_no_damping():
    X, y = load_iris(return_X_y=True)
    strong = LogisticRegression(C=1e-3, fit_intercept=False).fit(X, y)
    assert InfluenceFunction().fit(strong, X, y).damping_ == 0.0


def test_large_damping_gives_grad_dot(iris):
    X, y, X_test, y_test = iris
    pipe = fit_net(X, y)
    influence = InfluenceFunction("fisher", damping=1e8).fit(pipe, X, y).score(X_test, y_test)
    products = GradDot().fit(pipe, X, y).score(X_test, y_test)
    np.testing.assert_allclose(influence * 1e8 * len(X), products, rtol=1e-3, atol=1e-6)


def test_grad_cos_is_grad_dot_of_unit_gradients(iris):
    X, y, X_test, y_test = iris
    pipe = fit_net(X, y)
    dots = GradDot().fit(pipe, X, y)
    own = np.sqrt(dots.self_influence())
    test = np.sqrt(GradDot().fit(pipe, X_test, y_test).self_influence())
    expected = dots.score(X_test, y_test) / test[:, None] / own
    found = GradCos().fit(pipe, X, y).score(X_test, y_test)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
    assert np.abs(found).max() <= 1


def test_self_influence_is_the_diagonal(iris):
    X, y, _, _ = iris
    pipe = fit_net(X, y)
    for attributor in (GradDot(), InfluenceFunction("ggn"), InfluenceFunction("fisher")):
        fitted = attributor.fit(pipe, X, y)
        np.testing.assert_allclose(
            fitted.self_influence(), np.diag(fitted.score(X, y)), rtol=1e-4, atol=1e-7
        )
        assert (fitted.self_influence() >= 0).all()


def test_pandas_output_carries_index_labels(iris):
    X, y, X_test, y_test = iris
    frame = pd.DataFrame(X, columns=list("abcd"), index=[f"row{i}" for i in range(len(X))])
    test = pd.DataFrame(X_test, columns=list("abcd"), index=range(500, 530))
    pipe = make_pipeline(StandardScaler(), LogisticRegression()).fit(frame, y)
    attributor = InfluenceFunction().fit(pipe, frame, y).set_output(transform="pandas")
    scores = attributor.transform(test, y_test)
    assert list(scores.columns[:2]) == ["row0", "row1"]
    assert list(scores.index) == list(range(500, 530))
    np.testing.assert_array_equal(scores.to_numpy(), attributor.score(test, y_test))


def test_outputs_without_targets_explain_the_prediction(iris):
    X, y, X_test, _ = iris
    pipe = fit_net(X, y)
    for output in ("auto", "margin", "logit"):
        attributor = InfluenceFunction(output=output).fit(pipe, X, y)
        np.testing.assert_allclose(
            attributor.score(X_test), attributor.score(X_test, pipe.predict(X_test)), rtol=1e-6
        )


def test_loss_and_margin_rank_a_query_alike(iris):
    """Gradients of a binary example's loss and margin are parallel, so scores are too."""
    X, y, X_test, y_test = iris
    pipe = fit_net(X, y)
    loss = InfluenceFunction(output="neg_loss", damping=1e-3).fit(pipe, X, y)
    margin = InfluenceFunction(output="margin", damping=1e-3).fit(pipe, X, y)
    a, b = loss.score(X_test, y_test), margin.score(X_test, y_test)
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    np.testing.assert_allclose(cosine, 1.0, atol=1e-4)


def test_too_large_an_exact_curvature_is_projected_with_the_numbers(iris, monkeypatch):
    X, y, X_test, y_test = iris
    monkeypatch.setattr("influencekit.curvature.exact._exact.LARGEST_EXACT", 20)
    monkeypatch.setattr("influencekit.curvature.exact._exact.FALLBACK_DIM", 16)
    with pytest.warns(ProjectionWarning, match=r"51 x 51 .* projected to 16 dimensions"):
        attributor = InfluenceFunction(random_state=0).fit(fit_net(X, y), X, y)
    assert attributor.eigenvalues_.shape == (16,)
    assert np.isfinite(attributor.score(X_test, y_test)).all()


def test_projection_over_memory_is_refused_with_the_numbers(iris):
    X, y, _, _ = iris
    attributor = InfluenceFunction(projection_dim=40, max_memory="20KB")
    with pytest.raises(ResourceError, match="projection_dim: 40 needs"):
        attributor.fit(fit_net(X, y), X, y)


def test_projection_is_close_and_repeatable():
    X, y = load_digits(return_X_y=True)
    X, y = X[:300] / 16, y[:300]
    model = LogisticRegression(C=0.1, max_iter=500).fit(X, y)
    exact = InfluenceFunction("fisher", damping=1e-2).fit(model, X, y).score(X[:20], y[:20])
    wide = InfluenceFunction("fisher", damping=1e-2, projection_dim=600, random_state=0)
    found = wide.fit(model, X, y).score(X[:20], y[:20])
    assert np.corrcoef(found.ravel(), exact.ravel())[0, 1] > 0.9
    np.testing.assert_array_equal(found, wide.fit(model, X, y).score(X[:20], y[:20]))


def test_far_from_stationary_is_told(iris):
    X, y, _, _ = iris
    with pytest.warns(NotStationaryWarning, match="times the size of one example's gradient"):
        attributor = InfluenceFunction().fit(fit_net(X, y, lr=1e-9, max_epochs=1), X, y)
    trained = InfluenceFunction().fit(fit_net(X, y), X, y)
    assert trained.gradient_ratio_ < attributor.gradient_ratio_


def test_subset_sums_at_many_dampings_are_those_at_each(iris):
    X, y, X_test, y_test = iris
    path = InfluenceFunction("ggn").fit(fit_net(X, y), X, y).damping_path(X_test, y_test)
    sums = path.subset_sums(np.random.RandomState(0).rand(9, len(X)) < 0.5)
    dampings = np.geomspace(1e-4, 10, 7)
    stacked = sums.at(dampings)
    assert stacked.shape == (7, 30, 9)
    for values, damping in zip(stacked, dampings, strict=True):
        np.testing.assert_allclose(values, sums.at(damping), rtol=1e-5, atol=1e-7)


def test_top_k_of_ties_keeps_row_order_over_several_chunks(iris, monkeypatch):
    X, y, X_test, y_test = iris
    X, y = np.concatenate([X, X]), np.concatenate([y, y])
    attributor = GradDot().fit(fit_net(X, y), X, y)
    scores = attributor.score(X_test, y_test)
    monkeypatch.setattr("influencekit.base._STREAM_SIZE", 7 * len(X))
    rows, values = attributor.top_k(X_test, y_test, k=6)
    # a row and its repetition are a tie; each chunk of queries rounds in its own way
    best = np.argsort(-scores[:, : len(X) // 2], axis=1, kind="stable")[:, :3]
    expected = np.stack([best, best + len(X) // 2], axis=2).reshape(len(best), 6)
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(values, np.take_along_axis(scores, rows, axis=1), rtol=1e-6)


def test_refused_damping_changes_nothing(iris):
    X, y, _, _ = iris
    attributor = InfluenceFunction(damping=0.01).fit(fit_net(X, y), X, y)
    with pytest.raises(ValueError, match="damping"):
        attributor.set_damping(-1)
    assert attributor.damping == attributor.damping_ == 0.01


def test_margin_takes_memory_for_one_class():
    """The margin of a thousand classes is one number an example, not a square of classes."""
    outputs = torch.randn(64, 1000)
    targets = torch.randint(1000, (64,))
    task = as_task(nn.Linear(2, 1000), loss=nn.CrossEntropyLoss())
    function = resolve_output(task, "margin", True)
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: sizes.append(t.numel()) or t, lambda t: t
    ):
        sizes = []
        function(outputs.requires_grad_(), targets)
    assert max(sizes) <= outputs.numel()
