"""Candidates found with faiss: exact scores, measured recall, and the scan where it is needed."""

import pickle
import sys

import numpy as np
import pytest
import torch

from influencekit import AttributionIndex, GradDot
from tests.index._models import X, X_query, linear, y, y_query

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture
def index(tmp_path):
    return AttributionIndex(GradDot(), tmp_path / "i", shard_rows=40, dtype="int8").fit(
        linear(), X, y
    )


def test_without_faiss_the_package_is_named(index, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match="use_faiss needs faiss-cpu, which is not installed"):
        index.use_faiss()


class TestWithFaiss:
    @pytest.fixture(autouse=True)
    def _faiss(self):
        pytest.importorskip("faiss", reason="faiss is not installed (pip install faiss-cpu)")

    @pytest.mark.parametrize("opponents", [False, True])
    def test_candidates_have_the_scores_of_the_scan(self, opponents, index):
        expected = index.top_k(X_query, y_query, k=5, opponents=opponents)
        scores = index.score(X_query, y_query)
        recall = index.use_faiss("IVF8,Flat", search="nprobe=8")
        rows, found = index.top_k(X_query, y_query, k=5, opponents=opponents)
        assert recall == 1.0
        np.testing.assert_array_equal(rows, expected[0])
        np.testing.assert_allclose(found, expected[1], rtol=1e-6)
        index.use_faiss("IVF8,Flat", search="nprobe=1", n_candidates=5)
        rows, found = index.top_k(X_query, y_query, k=5, opponents=opponents)
        np.testing.assert_allclose(found, np.take_along_axis(scores, rows, 1), rtol=1e-6)

    def test_recall_is_that_of_the_rows_themselves(self, index):
        recall = index.use_faiss("IVF16,Flat", search="nprobe=1", n_candidates=10)
        shards = index.fitted_[0].shards
        rows = np.concatenate([shard.coordinates * shard.scales[:, None] for shard in shards])
        best = np.argsort(-(rows @ rows.T), axis=1, kind="stable")[:, :10]
        everyone = np.ones(len(rows), dtype=bool)
        found, _, enough = index.fitted_[0].finder.best(torch.from_numpy(rows), 10, 1.0, everyone)
        same = [len(set(a) & set(b)) / 10 for a, b in zip(found, best, strict=True)]
        np.testing.assert_allclose(recall, np.mean(np.where(enough, same, 1.0)))

    def test_removed_rows_and_few_candidates_are_scanned(self, index):
        index.remove_rows(np.arange(60))
        expected = index.top_k(X_query, y_query, k=9)
        index.use_faiss("IVF8,Flat", search="nprobe=1", n_candidates=9)
        rows, scores = index.top_k(X_query, y_query, k=9)
        assert (rows >= 60).all()
        assert (np.diff(scores, axis=1) <= 0).all()
        mask = np.arange(len(X)) % 2 == 0
        among = index.top_k(X_query, y_query, k=9, among=mask)[0]
        assert (among % 2 == 0).all()
        index.use_faiss("IVF1,Flat", n_candidates=30)  # all rows, of which two thirds are removed
        np.testing.assert_array_equal(index.top_k(X_query, y_query, k=9)[0], expected[0])

    def test_a_pickle_and_a_change_leave_faiss_behind(self, index):
        index.use_faiss()
        assert pickle.loads(pickle.dumps(index)).fitted_[0].finder is None
        assert index.add_rows(X[:3], y[:3]).fitted_[0].finder is None

    def test_wrong_texts_are_told(self, index):
        with pytest.raises(ValueError, match="factory: got 'no index'"):
            index.use_faiss("no index")
        with pytest.raises(ValueError, match="n_candidates: got 0"):
            index.use_faiss(n_candidates=0)
