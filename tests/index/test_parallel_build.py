"""Shards written by several workers, and by processes that know nothing of each other."""

import joblib
import numpy as np
import pytest
import torch

from influencekit import AttributionIndex, InfluenceFunction
from influencekit.exceptions import LostWorkersError
from influencekit.utils import _parallel
from influencekit.utils._parallel import in_parallel, one_thread
from tests.index._models import X, X_query, net, y, y_query

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def index(folder, **options):
    held = InfluenceFunction(projection_dim=8, random_state=0, max_memory="99MB")
    return AttributionIndex(held, folder, shard_rows=20, max_memory="99MB", **options)


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_workers_write_the_bytes_of_one_process(tmp_path):
    index(tmp_path / "one").fit(net(), X, y)
    with joblib.parallel_config(backend="threading", n_jobs=3):
        index(tmp_path / "three").fit(net(), X, y)
    assert files(tmp_path / "three") == files(tmp_path / "one")


def test_bytes_do_not_depend_on_threads(tmp_path):
    before = torch.get_num_threads()
    try:
        for n in (1, 3):
            torch.set_num_threads(n)
            index(tmp_path / str(n)).fit(net(), X, y)
            assert torch.get_num_threads() == n
            with one_thread():
                assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    assert files(tmp_path / "1") == files(tmp_path / "3")


def test_slices_by_number_make_the_index_of_one_call(tmp_path):
    index(tmp_path / "whole").fit(net(), X, y)
    left = [index(tmp_path / "i").fit_slice(net(), X, y, number=i, n_slices=3) for i in (3, 1, 2)]
    assert left == [4, 2, 0]  # of 5 shards, the third slice has one
    with pytest.raises(FileNotFoundError, match="has no manifest"):
        AttributionIndex.open(tmp_path / "i", net())
    index(tmp_path / "i").fit(net(), X, y)
    assert files(tmp_path / "i") == files(tmp_path / "whole")
    assert index(tmp_path / "i").fit_slice(net(), X, y, number=1, n_slices=3) == 0
    with pytest.raises(FileExistsError, match="another model, other data"):
        index(tmp_path / "i").fit_slice(net(), X + 1, y, number=1, n_slices=3)


@pytest.mark.parametrize(
    ("number", "n_slices", "said"),
    [(0, 3, "number: got 0; accepted are ints from 1 to n_slices=3"), (1, 0, "n_slices: got 0")],
)
def test_wrong_numbers_are_told(tmp_path, number, n_slices, said):
    with pytest.raises(ValueError, match=said):
        index(tmp_path / "i").fit_slice(net(), X, y, number=number, n_slices=n_slices)


def test_an_index_is_opened_whatever_built_it(tmp_path):
    built = index(tmp_path / "i", n_jobs=1).fit(net(), X, y)
    opened = AttributionIndex.open(tmp_path / "i", net())
    assert opened.n_jobs is None
    np.testing.assert_array_equal(opened.score(X_query, y_query), built.score(X_query, y_query))


class Breaks:
    """joblib.Parallel that ends after some results, as if a worker was killed."""

    left = 0  # of breaks
    done = 2

    def __init__(self, **options):
        pass

    def __call__(self, calls):
        for i, (function, args, kwargs) in enumerate(calls):
            if i == self.done and Breaks.left:
                Breaks.left -= 1
                raise RuntimeError("a worker was killed")
            yield function(*args, **kwargs)


def squared(item, shift):
    if item < 0:
        raise ArithmeticError("negative")
    return item**2 + shift


def test_items_of_lost_workers_are_done_again(monkeypatch):
    monkeypatch.setattr(_parallel.joblib, "Parallel", Breaks)
    Breaks.left = 2
    found = list(in_parallel(squared, [1, lambda: 2, 3, 4, 5], None, shift=1))
    assert found == [(0, 2), (1, 5), (2, 10), (3, 17), (4, 26)]
    assert Breaks.left == 0


def test_workers_that_are_always_lost_are_told(monkeypatch):
    monkeypatch.setattr(_parallel.joblib, "Parallel", Breaks)
    monkeypatch.setattr(Breaks, "done", 0)
    Breaks.left = 99
    with pytest.raises(LostWorkersError, match=r"3 of 3 slices are not done.*a worker was killed"):
        list(in_parallel(squared, [1, 2, 3], None, shift=0))


def test_errors_of_the_work_are_raised_as_they_are():
    with pytest.raises(ArithmeticError, match="negative"):
        list(in_parallel(squared, [1, -2], None, shift=0))
