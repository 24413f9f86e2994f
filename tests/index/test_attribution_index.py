"""An index gives the attributor's scores from a folder, in few bits, after kills and changes."""

import copy
import pickle
import threading
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from influencekit import (
    TRAK,
    AttributionIndex,
    GradCos,
    GradDot,
    GroupAttributor,
    InfluenceFunction,
    RunAverage,
    TracIn,
    as_task,
)
from influencekit.exceptions import NotStationaryWarning
from influencekit.index import _build
from influencekit.models import load_checkpoints
from influencekit.models._run_task import run_task
from tests.index._models import X, X_query, influence_by_hand, linear, net, y, y_query

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
ATTRIBUTORS = {
    "GradDot": GradDot(),
    "GradCos": GradCos(),
    "TRAK": TRAK(projection_dim=8, random_state=0),
    "ggn": InfluenceFunction(),
    "projected": InfluenceFunction(projection_dim=8, random_state=0),
    "logra": InfluenceFunction("logra", random_state=0),
    "hessian": InfluenceFunction("hessian"),
}

#: One of each kind of map; the others are alike.
QUICK = {"GradDot", "TRAK", "projected", "logra"}


def close(found, expected, rtol):
    assert np.abs(found - expected).max() <= rtol * np.abs(expected).max()


def built(attributor, path, model=None, **options):
    options = {"shard_rows": 40, **options}
    return AttributionIndex(attributor, path, **options).fit(model or net(), X, y)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in QUICK)) for n in ATTRIBUTORS]
)
def test_an_opened_index_gives_the_scores_of_the_attributor(name, tmp_path):
    attributor, model = ATTRIBUTORS[name], net()
    expected = attributor.fit(model, X, y)
    built(attributor, tmp_path / "i")
    index = AttributionIndex.open(tmp_path / "i", model)
    close(index.score(X_query, y_query), expected.score(X_query, y_query), 1e-6)
    close(index.self_influence(), expected.self_influence(), 1e-12)
    rows, scores = index.top_k(X_query, y_query, k=5)
    close(scores, expected.top_k(X_query, y_query, k=5)[1], 1e-6)
    close(np.take_along_axis(index.score(X_query, y_query), rows, 1), scores, 1e-6)


def test_scores_are_those_computed_by_hand(tmp_path):
    model = linear()
    built(InfluenceFunction(output="neg_loss"), tmp_path / "i", model)
    expected = influence_by_hand(model, X, y, X_query, y_query, len(X))
    close(AttributionIndex.open(tmp_path / "i", model).score(X_query, y_query), expected, 1e-6)


@pytest.mark.parametrize(
    ("dtype", "error", "spearman", "n_bytes"),
    [("float32", 1e-6, 0.99999, 4), ("float16", 1e-3, 0.999, 2), ("int8", 3e-2, 0.99, 1)],
)
def test_the_error_of_few_bits_is_measured(dtype, error, spearman, n_bytes, tmp_path):
    attributor = InfluenceFunction(projection_dim=24, random_state=0)
    index = built(attributor, tmp_path / "i", dtype=dtype)
    expected = attributor.fit(net(), X, y).score(X_query, y_query)
    close(index.score(X_query, y_query), expected, error)
    assert index.rounding_["spearman"] >= spearman
    assert 0 < index.rounding_["relative_error"] <= error
    assert index.bytes_per_row_ == 24 * n_bytes + 3 * 8


@pytest.mark.parametrize("attributor", [TRAK(projection_dim=8, random_state=0), TracIn([0.1, 0.3])])
def test_several_models_stand_side_by_side(attributor, tmp_path):
    models = [net(0), net(1)]
    expected = attributor.fit(models, X, y)
    built(attributor, tmp_path / "i", models)
    index = AttributionIndex.open(tmp_path / "i", models)
    close(index.score(X_query, y_query), expected.score(X_query, y_query), 1e-6)
    close(index.self_influence(), expected.self_influence(), 1e-12)


@pytest.mark.parametrize("slopes", ["mean", "unit", pytest.param("own", marks=pytest.mark.slow)])
def test_an_average_along_a_run_has_a_block_for_each_checkpoint(slopes, tmp_path):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    starts = [
        {k: v + 0.3 * torch.randn_like(v) for k, v in module.state_dict().items()} for _ in "ab"
    ]
    loss = nn.CrossEntropyLoss()
    run = run_task(as_task(module, loss), load_checkpoints(module, starts, loss))
    attributor = RunAverage(InfluenceFunction(damping=0.1), slopes=slopes)
    expected = attributor.fit(run, X, y)
    index = built(attributor, tmp_path / "i", run)
    assert index.dim_ == 2 * sum(p.numel() for p in module.parameters())
    close(index.score(X_query, y_query), expected.score(X_query, y_query), 1e-6)
    close(index.self_influence(), expected.self_influence(), 1e-7 if slopes == "unit" else 1e-9)


def test_scores_at_length_one_count_the_rows_that_are_left(tmp_path):
    torch.manual_seed(0)
    module, loss = nn.Linear(4, 2).double(), nn.CrossEntropyLoss()
    starts = [{k: v + i for k, v in module.state_dict().items()} for i in (0.0, 0.5)]
    run = run_task(as_task(module, loss), load_checkpoints(module, starts, loss))
    held = InfluenceFunction(damping=0.1)
    by_checkpoint = []
    for state in starts:
        module.load_state_dict(state)
        by_checkpoint.append(held.fit(as_task(module, loss), X, y).score(X_query, y_query))

    def expected(left):
        units = [s[:, left] / np.linalg.norm(s[:, left], axis=1)[:, None] for s in by_checkpoint]
        return np.mean(units, axis=0)

    index = built(RunAverage(held, slopes="unit"), tmp_path / "i", run, dtype="float16")
    close(index.score(X_query, y_query), expected(np.ones(len(X), bool)), 1e-3)
    assert index.rounding_["relative_error"] < 1e-3
    index = AttributionIndex.open(tmp_path / "i", run)
    left = np.arange(len(X)) % 3 > 0
    index.remove_rows(~left)
    for opened in (index, AttributionIndex.open(tmp_path / "i", run)):
        close(opened.score(X_query, y_query)[:, left], expected(left), 1e-3)
        rows, scores = opened.top_k(X_query, y_query, k=1)
        close(scores[:, 0], expected(left).max(1), 1e-3)
        assert left[rows].all()


@pytest.mark.parametrize("killed_at", [pytest.param("000000", marks=pytest.mark.slow), "000002"])
def test_a_killed_build_goes_on_and_writes_the_same_bytes(killed_at, tmp_path, monkeypatch):
    attributor, write, made = (
        InfluenceFunction(projection_dim=8, random_state=0),
        _build.write_shard,
        [],
    )

    def dies(folder, name, *rest):
        if name == killed_at:
            raise KeyboardInterrupt
        return write(folder, name, *rest)

    def counts(folder, name, *rest):
        made.append(name)
        return write(folder, name, *rest)

    whole = built(attributor, tmp_path / "whole", shard_rows=20)
    with monkeypatch.context() as patch:
        patch.setattr(_build, "write_shard", dies)
        with pytest.raises(KeyboardInterrupt):
            built(attributor, tmp_path / "i", shard_rows=20)
    with pytest.raises(FileNotFoundError, match="has no manifest"):
        AttributionIndex.open(tmp_path / "i", net())
    monkeypatch.setattr(_build, "write_shard", counts)
    index = built(attributor, tmp_path / "i", shard_rows=20)
    assert made == [f"{i:06d}" for i in range(int(killed_at), 5)]
    np.testing.assert_array_equal(index.score(X_query), whole.score(X_query))
    names = sorted(p.name for p in (tmp_path / "whole").glob("*.npy"))
    assert names == sorted(p.name for p in (tmp_path / "i").glob("*.npy"))
    for name in names:
        assert (tmp_path / "i" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_folder_of_another_index_is_refused(tmp_path):
    built(InfluenceFunction(), tmp_path / "i")
    built(InfluenceFunction(), tmp_path / "i")  # the same one is only opened
    with pytest.raises(FileExistsError, match="another model, other data or other settings"):
        AttributionIndex(InfluenceFunction(), tmp_path / "i").fit(net(), X + 1e-9, y)
    with pytest.raises(FileExistsError, match="another model"):
        built(InfluenceFunction(), tmp_path / "i", dtype="int8")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="files of something else"):
        built(InfluenceFunction(), tmp_path / "other")


def test_readers_in_threads_get_the_same_bits(tmp_path):
    built(InfluenceFunction(), tmp_path / "i", dtype="float16")
    index, found = AttributionIndex.open(tmp_path / "i", net()), [None] * 4
    expected = index.score(X_query, y_query)

    def asks(i):
        found[i] = AttributionIndex.open(tmp_path / "i", net()).score(X_query, y_query)

    threads = [threading.Thread(target=asks, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for scores in found:
        np.testing.assert_array_equal(scores, expected)


def test_an_index_is_pickled_by_its_folder(tmp_path):
    index = built(GradDot(), tmp_path / "i")
    data = pickle.dumps(index)
    np.testing.assert_array_equal(pickle.loads(data).score(X_query), index.score(X_query))
    assert X.tobytes() not in data
    assert index.fitted_[0].shards[0].coordinates.numpy().tobytes() not in data


def test_curvature_of_some_rows_is_close_to_that_of_all(tmp_path):
    expected = InfluenceFunction().fit(linear(), X, y).score(X_query, y_query)
    index = built(InfluenceFunction(), tmp_path / "i", linear(), curvature_rows=80)
    assert np.corrcoef(index.score(X_query, y_query).ravel(), expected.ravel())[0, 1] > 0.98
    gram = built(GradDot(), tmp_path / "j", curvature_rows=10)  # without curvature nothing changes
    close(gram.score(X_query, y_query), GradDot().fit(net(), X, y).score(X_query, y_query), 1e-6)


@pytest.mark.parametrize("n_rows", [12, 40])
def test_a_model_at_its_optimum_is_not_judged_by_a_sample_of_the_rows(n_rows, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", NotStationaryWarning)
        built(InfluenceFunction(), tmp_path / "i", linear(), curvature_rows=n_rows)


@pytest.mark.parametrize("n_rows", [60, 80])
def test_a_model_far_from_its_optimum_is_found_on_a_sample_of_the_rows(n_rows, tmp_path):
    model = copy.deepcopy(linear())
    model.intercept_ = model.intercept_ + 3.0
    with pytest.warns(NotStationaryWarning, match="rows other than those given"):
        built(InfluenceFunction(), tmp_path / "i", model, curvature_rows=n_rows)


def test_a_sum_of_losses_keeps_its_penalty_on_a_sample_of_the_rows(tmp_path):
    """Twice the same rows: half of them have the same curvature if the penalty counts alike."""
    twice, labels = np.repeat(X, 2, axis=0), np.repeat(y, 2)
    model = linear(0.05).__class__(C=0.05, tol=1e-10).fit(twice, labels)
    expected = InfluenceFunction(damping=0).fit(model, twice, labels).score(X_query, y_query)
    index = AttributionIndex(InfluenceFunction(damping=0), tmp_path / "i", curvature_rows=len(X))
    sampled = index.fit(model, twice, labels).score(X_query, y_query)
    close(sampled, expected, 0.02)


def test_another_damping_needs_no_other_files(tmp_path):
    index = built(InfluenceFunction(), tmp_path / "i").set_damping(0.5)
    expected = InfluenceFunction(damping=0.5).fit(net(), X, y)
    close(index.score(X_query, y_query), expected.score(X_query, y_query), 1e-6)
    close(index.self_influence(), expected.self_influence(), 1e-6)
    assert index.damping_ == 0.5
    with pytest.raises(ValueError, match="damping: got -1"):
        index.set_damping(-1)
    assert not hasattr(built(GradDot(), tmp_path / "j"), "set_damping")


def test_groups_stand_around_an_index(tmp_path):
    groups = np.arange(len(X)) % 3
    expected = GroupAttributor(InfluenceFunction()).fit(net(), X, y, groups=groups)
    index = AttributionIndex(InfluenceFunction(), tmp_path / "i")
    found = GroupAttributor(index).fit(net(), X, y, groups=groups)
    close(found.score(X_query, y_query), expected.score(X_query, y_query), 1e-6)
    with pytest.raises(ValueError, match="Put the groups around the index"):
        AttributionIndex(GroupAttributor(GradDot()), tmp_path / "j").fit(net(), X, y)


@pytest.mark.parametrize("attributor", [InfluenceFunction("cg"), InfluenceFunction("datainf")])
def test_methods_without_coordinates_are_refused(attributor, tmp_path):
    with pytest.raises(ValueError, match="not inner products of few numbers"):
        built(attributor, tmp_path / "i")


def test_candidates_are_found_among_some_rows(tmp_path):
    index = built(InfluenceFunction(), tmp_path / "i")
    scores, mask = index.score(X_query, y_query), np.arange(len(X)) % 4 == 1
    for opponents in (False, True):
        rows, found = index.top_k(X_query, y_query, k=3, opponents=opponents, among=mask)
        worst = np.inf if opponents else -np.inf
        order = np.argsort((1 if opponents else -1) * np.where(mask, scores, worst), axis=1)
        np.testing.assert_array_equal(rows, order[:, :3])
        close(found, np.take_along_axis(scores, rows, 1), 1e-6)
    with pytest.raises(ValueError, match="among: got int64"):
        index.top_k(X_query, y_query, k=3, among=np.arange(3))
    with pytest.raises(ValueError, match=r"k: got 99; accepted are integers from 1 to 90"):
        index.top_k(X_query, y_query, k=99)


def test_equal_scores_are_returned_in_row_order(tmp_path):
    twice, labels = np.repeat(X, 3, axis=0), np.repeat(y, 3)
    index = AttributionIndex(GradDot(), tmp_path / "i", shard_rows=7).fit(net(), twice, labels)
    rows, _ = index.top_k(X_query[:3], y_query[:3], k=6)
    assert (rows % 3 == [0, 1, 2, 0, 1, 2]).all()
