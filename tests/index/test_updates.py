"""Rows added and removed, and another model: what an index answers after changes."""

import json

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from influencekit import AttributionIndex, GradDot, InfluenceFunction
from influencekit.exceptions import InfluenceKitWarning
from influencekit.index import _build
from tests.index._models import X, X_query, influence_by_hand, linear, net, y, y_query

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
QUERIES = X_query, y_query


@pytest.fixture
def index(tmp_path):
    attributor = InfluenceFunction(output="neg_loss")
    return AttributionIndex(attributor, tmp_path / "i", shard_rows=40).fit(linear(), X, y)


def opened(index):
    return AttributionIndex.open(index.folder, linear())


def stored(index):
    return np.concatenate([np.load(p) for p in sorted(index.folder.glob("coordinates-*.npy"))])


def test_added_rows_are_scored_by_the_same_curvature(index):
    index.add_rows(X_query, y_query)
    rows, targets = np.r_[X, X_query], np.r_[y, y_query]
    expected = influence_by_hand(linear(), rows, targets, *QUERIES, len(X))
    for one in (index, opened(index)):
        scores = one.score(*QUERIES)
        np.testing.assert_allclose(scores, expected, atol=1e-6 * np.abs(expected).max())
    assert index.n_train_ == len(rows) == len(index.self_influence())


def test_an_addition_that_was_killed_takes_nothing_of_other_rows(index, monkeypatch):
    with monkeypatch.context() as patch:
        write = _build.write_shard
        patch.setattr(_build, "write_shard", lambda *a: (write(*a), 1 / 0)[0])
        with pytest.raises(ZeroDivisionError):
            index.add_rows(X_query, y_query)
    assert opened(index).n_train_ == len(X)
    index.add_rows(-X_query, y_query)
    expected = influence_by_hand(linear(), -X_query, y_query, *QUERIES, len(X))
    np.testing.assert_allclose(index.score(*QUERIES)[:, len(X) :], expected, rtol=1e-4)


def test_removed_rows_score_zero_and_are_not_found(index):
    before = index.score(*QUERIES)
    best = index.top_k(*QUERIES, k=1)[0][:, 0]
    index.remove_rows(best)
    for one in (index, opened(index)):
        scores = one.score(*QUERIES)
        assert (scores[:, best] == 0).all()
        others = np.setdiff1d(np.arange(len(X)), best)
        np.testing.assert_array_equal(scores[:, others], before[:, others])
        assert not np.isin(one.top_k(*QUERIES, k=5)[0], best).any()
        assert (one.self_influence()[best] == 0).all()
        np.testing.assert_array_equal(one.removed_rows_, np.unique(best))


def test_compacting_keeps_the_bits_of_what_is_left(index, tmp_path):
    index.remove_rows([3, 41, 42]).remove_rows(np.arange(len(X)) == 80)
    before = np.delete(index.score(*QUERIES), [3, 41, 42, 80], axis=1)
    rows = np.delete(stored(index), [3, 41, 42, 80], axis=0)
    index.compact()
    np.testing.assert_array_equal(stored(index), rows)
    # products of the same rows in other blocks, in float32
    rounding = 4 * np.finfo(np.float32).eps * np.abs(before).max()
    for one in (index, opened(index)):
        np.testing.assert_allclose(one.score(*QUERIES), before, rtol=0, atol=rounding)
        assert one.n_train_ == len(X) - 4
        assert len(one.removed_rows_) == 0
    manifest = json.loads((tmp_path / "i" / "manifest.json").read_text())
    named = {part["file"] for entry in manifest["shards"] for part in entry.values()}
    assert {p.name for p in (tmp_path / "i").glob("*.npy")} == named


def test_rows_that_are_not_there_are_refused(index):
    for rows in ([len(X)], [-1], [[1]], [True]):
        with pytest.raises(ValueError, match="rows: got"):
            index.remove_rows(rows)
    with pytest.raises(ValueError, match="leave some"):
        index.remove_rows(np.arange(len(X)))


def test_a_changed_index_is_not_taken_for_one_of_fit(index):
    index.remove_rows([1])
    with pytest.raises(FileExistsError, match="changed since its build"):
        AttributionIndex(index.attributor, index.folder, shard_rows=40).fit(linear(), X, y)


def test_a_model_that_has_hardly_moved_keeps_its_rows(tmp_path):
    model, later = net(n_epochs=60), net(n_epochs=61)
    index = AttributionIndex(InfluenceFunction(), tmp_path / "i").fit(model, X, y)
    stored = index.fitted_[0].shards[0].coordinates.clone()
    found = index.refresh(later)
    assert found["kept"] == "rows"
    assert found["cosine_of_rows"] > 0.95
    again = AttributionIndex.open(tmp_path / "i", later)
    np.testing.assert_array_equal(again.fitted_[0].shards[0].coordinates, stored)
    np.testing.assert_array_equal(again.score(X_query), index.score(X_query))
    with pytest.raises(ValueError, match="not the one"):
        AttributionIndex.open(tmp_path / "i", model)


def test_another_model_makes_everything_again_with_a_warning(tmp_path):
    index = AttributionIndex(GradDot(), tmp_path / "i", dtype="float16").fit(net(0), X, y)
    other = net(3)
    with pytest.warns(InfluenceKitWarning, match="rows .*were made again"):
        found = index.refresh(other)
    assert found["kept"] != "rows"
    expected = GradDot().fit(other, X, y).score(*QUERIES)
    for one in (index, AttributionIndex.open(tmp_path / "i", other)):
        scores = one.score(*QUERIES)
        assert np.abs(scores - expected).max() < 1e-3 * np.abs(expected).max()


def test_a_linear_model_is_learned_again_as_its_centered_copy_holds_old_weights(index):
    other = LogisticRegression(C=0.01).fit(X, y)
    with pytest.warns(InfluenceKitWarning, match="rows and curvature were made again"):
        assert index.refresh(other)["kept"] == "nothing"
    expected = InfluenceFunction(output="neg_loss").fit(other, X, y).score(*QUERIES)
    np.testing.assert_allclose(index.score(*QUERIES), expected, atol=1e-5 * np.abs(expected).max())


def test_an_opened_index_asks_for_the_data_of_a_refresh(index):
    with pytest.raises(ValueError, match="opened without its training data"):
        opened(index).refresh(linear(0.5))
    with pytest.raises(ValueError, match="X: got 12 rows; accepted are the 90 rows"):
        opened(index).refresh(linear(0.5), X_query, y_query)
