"""A memory-mapped X is pickled by the path of its file, not by its values."""

import copy
import pickle

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from influencekit import GradDot
from influencekit.index import load, save

RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 30))
y = (X[:, 0] > 0).astype(int)


@pytest.fixture
def fitted(tmp_path):
    np.save(tmp_path / "X.npy", X)
    on_disk = np.load(tmp_path / "X.npy", mmap_mode="r")
    return GradDot().fit(LogisticRegression().fit(X, y), on_disk, y)


def test_the_pickle_is_short_and_gives_the_same_scores(fitted):
    data = pickle.dumps(fitted)
    assert len(data) < X.nbytes / 2
    again = pickle.loads(data)
    np.testing.assert_array_equal(again.score(X[:3], y[:3]), fitted.score(X[:3], y[:3]))
    assert isinstance(again.fitted_[0].train.examples.source.tree, np.memmap)
    np.testing.assert_array_equal(copy.deepcopy(fitted).score(X[:3]), fitted.score(X[:3]))


def test_a_missing_file_is_named(fitted, tmp_path):
    data = pickle.dumps(fitted)
    (tmp_path / "X.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"X\.npy', which is not there"):
        pickle.loads(data)


def test_part_of_a_mapped_array_is_pickled_by_value(tmp_path):
    np.save(tmp_path / "X.npy", X)
    part = np.load(tmp_path / "X.npy", mmap_mode="r")[100:300]
    model = LogisticRegression().fit(X, y)
    found = pickle.loads(pickle.dumps(GradDot().fit(model, part, y[100:300])))
    expected = GradDot().fit(model, X[100:300], y[100:300]).score(X[:3], y[:3])
    np.testing.assert_array_equal(found.score(X[:3], y[:3]), expected)


def test_a_saved_folder_holds_the_data_itself(fitted, tmp_path):
    save(fitted, tmp_path / "f")
    model, expected = LogisticRegression().fit(X, y), fitted.score(X[:3], y[:3])
    (tmp_path / "X.npy").unlink()
    np.testing.assert_array_equal(load(tmp_path / "f", model).score(X[:3], y[:3]), expected)
