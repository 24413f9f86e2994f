"""Runs trained together are the runs that plain torch trains one by one."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from influencekit import FurtherTraining, Training, as_task
from influencekit.training.further._step import Removals
from influencekit.training.stack._schedule import batches_of_runs, epoch_orders
from tests._shared.attributors import further_training
from tests.training._further_reference import make_data, make_module, neg_losses, train_alone

REMOVALS = ("paired", "drop", "subtract")

OPTIMIZERS = {
    "sgd": ({"optimizer": "sgd", "lr": 0.1}, lambda p: torch.optim.SGD(p, lr=0.1)),
    "momentum": (
        {"optimizer": "sgd", "lr": 0.05, "momentum": 0.9},
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    ),
    "adam": ({"optimizer": "adam", "lr": 0.01}, lambda p: torch.optim.Adam(p, lr=0.01)),
    "adamw": (
        {"optimizer": "adamw", "lr": 0.01, "optimizer_params": {"weight_decay": 0.1}},
        lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    ),
}


def outputs_alone(further, module, X, y, queries, groups, make_optimizer, **options):
    """Scores of one seed after the other, (n_repeats, n_horizons, n_test, n_left_out)."""
    found = []
    for seed in further.seeds_:
        full, *others = [
            neg_losses(
                train_alone(module, X, y, removed, int(seed), make_optimizer, **options), *queries
            )
            for removed in [set(), *groups]
        ]
        found.append(np.stack([full - other for other in others], axis=-1))
    return np.stack(found)


def measured(module, X, y, queries, criterion=None, **options):
    settings = {"n_repeats": 2, "batch_size": 8, "random_state": 3, "engine": "stacked"}
    task = as_task(module, loss=criterion or nn.CrossEntropyLoss())
    further = further_training(**settings | options).fit(task, X, y)
    return further, np.stack(list(further.iter_seeds(*queries)))


@pytest.mark.parametrize("removal", REMOVALS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_together_as_alone(name, removal):
    settings, make_optimizer = OPTIMIZERS[name]
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-6)):
        X, y = make_data(dtype=dtype)
        queries = make_data(4, dtype)
        module = make_module(dtype)
        further, scores = measured(
            module, X, y, queries, left_out=[0, 7, 20], horizons=[1, 2], removal=removal, **settings
        )
        expected = outputs_alone(
            further, module, X, y, queries, [{0}, {7}, {20}], make_optimizer,
            epochs=2, horizons=(1, 2), removal=removal,
        )  # fmt: skip
        assert np.abs(expected).max() > 1e-4
        np.testing.assert_allclose(scores, expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("removal", REMOVALS)
def test_groups_of_unequal_sizes_and_weights(removal):
    X, y = make_data()
    queries = make_data(4)
    module = make_module()
    class_weight = torch.tensor([1.0, 3.0, 0.5], dtype=torch.float64)
    groups = [[0, 3, 4], [5], [9, 10, 11, 12, 13]]
    labels = np.full(21, "kept")
    for label, rows in zip("abc", groups, strict=True):
        labels[rows] = label
    further, scores = measured(
        module, X, y, queries, nn.CrossEntropyLoss(weight=class_weight), optimizer="adam",
        lr=0.01, groups=labels, left_out=list("abc"), n_steps=7, horizons=[2, 7], removal=removal,
    )  # fmt: skip
    expected = outputs_alone(
        further, module, X, y, queries, [set(g) for g in groups],
        lambda p: torch.optim.Adam(p, lr=0.01), n_steps=7, horizons=(2, 7),
        removal=removal, weights=class_weight[y],
    )  # fmt: skip
    np.testing.assert_allclose(scores, expected, atol=1e-12, rtol=0)
    table = further.score(*queries)
    for column, rows in enumerate(groups):
        np.testing.assert_allclose(
            table[:, rows], np.repeat(scores.mean(0)[-1][:, [column]], len(rows), 1), atol=1e-15
        )
    assert (table[:, labels == "kept"] == 0).all()


@pytest.mark.parametrize("engine", ["stacked", "loop"])
@pytest.mark.parametrize("removal", REMOVALS)
def test_a_batch_of_one_row_disappears_with_it(removal, engine):
    """17 rows in batches of 8: without a row, "drop" has a step less in every epoch."""
    X, y = make_data(17)
    queries = make_data(3)
    module = make_module()
    further, scores = measured(
        module, X, y, queries, optimizer="sgd", lr=0.1, horizons=[1, 3], left_out=17, n_repeats=1,
        removal=removal, engine=engine,
    )  # fmt: skip
    expected = outputs_alone(
        further, module, X, y, queries, [{i} for i in range(17)],
        lambda p: torch.optim.SGD(p, lr=0.1), epochs=3, horizons=(1, 3), removal=removal,
    )  # fmt: skip
    np.testing.assert_allclose(scores, expected, atol=1e-12, rtol=0)


def test_order_is_that_of_a_data_loader_bit_for_bit():
    n, size, seed = 21, 8, 11
    data = TensorDataset(torch.arange(n))
    generator = torch.Generator().manual_seed(seed)
    loader = DataLoader(data, batch_size=size, shuffle=True, generator=generator)
    epochs = [torch.cat([b for (b,) in loader]).tolist() for _ in range(4)]
    orders = epoch_orders(n, size, seed)
    assert [next(orders).tolist() for _ in range(4)] == epochs
    removals = Removals(np.where(np.isin(np.arange(n), [4, 9]), np.arange(n) % 2, -1), 2)
    batches = batches_of_runs(
        epoch_orders(n, size, seed),
        size,
        torch.as_tensor(removals.removal_of_row),
        torch.tensor([0, 1]),
    )
    for order in epochs:
        left = [[i for i in order if i != row] for row in (4, 9)]
        for start in range(0, n - 1, size):
            assert next(batches).tolist() == [row[start : start + size] for row in left]


def test_clipping_and_penalty_are_those_of_a_run_alone():
    X, y = make_data()
    queries = make_data(4)
    module = make_module()
    task = as_task(module, loss=nn.CrossEntropyLoss())
    strength = torch.tensor(0.3, dtype=torch.float64)
    task = dataclasses.replace(task, penalty=dict.fromkeys(task.parameters, strength))
    training = Training("adam", 0.01, n_steps=4, batch_size=8, max_grad_norm=0.05)
    further = FurtherTraining(
        training=training, left_out=3, n_repeats=1, random_state=0, engine="stacked"
    ).fit(task, X, y)  # fmt: skip
    expected = outputs_alone(
        further, module, X, y, queries, [{0}, {7}, {14}], lambda p: torch.optim.Adam(p, lr=0.01),
        n_steps=4, horizons=(4,), penalty=0.3, max_norm=0.05,
    )  # fmt: skip
    scores = np.stack(list(further.iter_seeds(*queries)))
    np.testing.assert_allclose(scores, expected, atol=1e-12, rtol=0)
    training = Training("sgd", 0.1, n_steps=4, batch_size=8, optimizer_params={"weight_decay": 0.2})
    decaying = FurtherTraining(
        training=training, left_out=3, n_repeats=1, random_state=0
    ).fit(task, X, y)  # fmt: skip
    expected = outputs_alone(
        decaying, module, X, y, queries, [{0}, {7}, {14}], lambda p: torch.optim.SGD(p, lr=0.1),
        n_steps=4, horizons=(4,), penalty=0.2,
    )  # fmt: skip
    np.testing.assert_allclose(
        np.stack(list(decaying.iter_seeds(*queries))), expected, atol=1e-12, rtol=0
    )


@pytest.mark.parametrize("removal", REMOVALS)
def test_chunks_of_runs_change_nothing(removal):
    X, y = make_data()
    queries = make_data(4)
    module = make_module()
    options = {"optimizer": "adam", "lr": 0.01, "left_out": 9, "n_steps": 4, "removal": removal}
    _, whole = measured(module, X, y, queries, **options)
    further, parts = measured(module, X, y, queries, max_memory=60_000, **options)
    assert len(further.fitted_[0].plan.runner().chunks()) > 3
    np.testing.assert_allclose(parts, whole, atol=1e-12, rtol=0)


class WithOwnNoise(nn.Module):
    """Noise that no stack knows."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 3, dtype=torch.float64)

    def forward(self, X):
        return self.layer(X + 0.1 * torch.randn_like(X) * self.training)


def test_runs_go_one_after_the_other_where_they_must():
    X, y = make_data()
    queries = make_data(4)
    torch.manual_seed(0)
    module = WithOwnNoise().eval()
    options = {"lr": 0.1, "n_steps": 4, "left_out": [2, 5]}
    with pytest.warns(UserWarning, match="one after the other, .*random"):
        further, scores = measured(module, X, y, queries, engine="auto", **options)
    expected = outputs_alone(
        further, module, X, y, queries, [{2}, {5}], lambda p: torch.optim.SGD(p, lr=0.1),
        n_steps=4, horizons=(4,),
    )  # fmt: skip
    np.testing.assert_allclose(scores, expected, atol=1e-12, rtol=0)
    with pytest.raises(ValueError, match="engine='stacked' cannot train"):
        measured(module, X, y, queries, **options)
