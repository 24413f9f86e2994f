"""What a fit will cost, said before it runs."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from influencekit import AttributionIndex, GradDot, InfluenceFunction, SGDInfluence, as_task
from influencekit import _estimate as estimates
from influencekit._estimate import Trial, as_estimate, bilinear, row_law
from influencekit.exceptions import collected_warnings

RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 3))
Y = (X[:, 0] + RNG.logistic(size=400) > 0).astype(int)
MODEL = LogisticRegression().fit(X, Y)


def trial(n, seconds, cubic=False):
    return Trial(n, seconds, [(n, 4, 1.0), (n, 8, 2.0)], [(n, 4, 0.0)], 6.0, 3.0, cubic)


def test_seconds_of_a_fit_go_on_as_they_grow():
    line = row_law([trial(100, 3.0), trial(200, 5.0)])  # 1 + n / 50
    assert line(1000) == pytest.approx(21.0)
    assert row_law([trial(100, 3.0), trial(200, 2.0)])(1000) == pytest.approx(2.5, rel=0.2)
    p, work = 7, lambda n: n**2 * 7 + 5 * n**3
    cube = row_law([trial(n, 0.5 + 1e-6 * work(n)) for n in (50, 100)], p)
    assert cube(1000) == pytest.approx(0.5 + 1e-6 * work(1000))


def test_seconds_of_queries_are_bilinear():
    costs = [(n, q, 1 + 0.01 * n + 0.2 * q + 0.003 * n * q) for n in (100, 200) for q in (8, 64)]
    assert bilinear(costs, 5000, 300) == pytest.approx(1 + 50 + 60 + 4500)


def test_a_busy_machine_is_slower_than_its_processor():
    found = as_estimate([trial(100, 3.0), trial(200, 5.0)], 21.0, 1000, 100)
    assert found.fit_seconds == pytest.approx(42.0)  # 6 s passed in 3 s of the processor
    assert found.cpu_seconds == pytest.approx(found.seconds / 2)
    assert found.peak_bytes is None
    assert "unknown of memory" in str(found)


def test_a_method_is_tried_on_few_rows_and_stays_unfitted(monkeypatch):
    sizes, cost = [], estimates.trial_cost

    def counts(attributor, models, train, n, n_queries):
        sizes.append(n)
        return cost(attributor, models, train, n, n_queries)

    monkeypatch.setattr(estimates, "trial_cost", counts)
    monkeypatch.setattr(estimates, "MOST", 128)
    attributor = GradDot()
    found = attributor.estimate(MODEL, X, Y, n_queries=20)
    assert sizes == [32, 128]
    assert found.tried == (32, 128)
    assert (found.n_train, found.n_queries, found.disk_bytes) == (400, 20, 0)
    assert found.fit_seconds > 0
    assert "\n" not in str(found)
    assert not hasattr(attributor, "fitted_")


def test_files_of_an_index_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(estimates, "MOST", 64)
    index = AttributionIndex(GradDot(), tmp_path / "i", dtype="float16", curvature_rows=80)
    found = index.estimate(MODEL, X, Y, n_queries=5)
    assert not (tmp_path / "i").exists()
    index.fit(MODEL, X, Y)
    written = sum(p.stat().st_size for p in (tmp_path / "i").rglob("*") if p.is_file())
    assert found.disk_bytes == pytest.approx(written, rel=0.2)


def test_decompositions_among_examples_are_told_from_others():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 300), nn.Tanh(), nn.Linear(300, 2))
    task = as_task(net, loss=nn.CrossEntropyLoss())
    with collected_warnings():
        few = cubic_trial(task)
    assert few.cubic
    assert [q for _, q, _ in few.answers] == [4]


def cubic_trial(task):
    return estimates.trial_cost(
        InfluenceFunction("fisher", damping=0.1),
        task,
        InfluenceFunction()._open(task, X.astype(np.float32), Y)[1],
        50,
        4,
    )


def test_what_cannot_be_tried_is_told():
    with pytest.raises(ValueError, match="n_queries: got 0"):
        GradDot().estimate(MODEL, X, Y, n_queries=0)
    with pytest.raises(ValueError, match="SGDInfluence cannot be tried on 32 of the rows"):
        SGDInfluence().estimate(MODEL, X, Y)
