"""FurtherTraining: closed forms, nets' own optimizers, what is left out, adjustments, refusals."""

import copy

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LogisticRegression, Ridge
from skorch import NeuralNetClassifier, NeuralNetRegressor
from skorch.dataset import ValidSplit
from torch import nn

from influencekit import FurtherTraining, GradDot, Training, as_task
from influencekit.data import make_examples
from influencekit.exceptions import HeldOutRowsWarning, UnsupportedModelError
from influencekit.training.further._plan import endpoint_seed
from tests._shared.attributors import further_training
from tests.training._further_reference import make_data, make_module, neg_losses, train_alone

X, Y = make_data()
QUERIES = make_data(4)
SHORT = {"n_steps": 3, "n_repeats": 2, "random_state": 0}


def module_task():
    return as_task(make_module(), loss=nn.CrossEntropyLoss())


def further(**options):
    return further_training(**{"lr": 0.1} | SHORT | options).fit(module_task(), X, Y)


def test_long_full_batch_training_is_leave_one_out_of_ridge():
    """The penalty stands beside the sum, so without a row it weighs more beside the mean."""
    A, b = load_diabetes(return_X_y=True)
    A, b = A[:12, :3] * 20, b[:12] / 100
    model = Ridge(alpha=3.0).fit(A, b)
    without = [Ridge(alpha=3.0).fit(np.delete(A, j, 0), np.delete(b, j)) for j in range(12)]
    expected = np.stack([(model.predict(A) - w.predict(A)) for w in without], axis=1)
    training = Training("sgd", 0.2, n_steps=150, batch_size=12)
    options = {"training": training, "n_repeats": 1, "output": "prediction"}
    for removal in ("paired", "drop", "subtract"):
        measured = FurtherTraining(removal=removal, **options)
        np.testing.assert_allclose(measured.fit(model, A, b).score(A), expected, atol=1e-8)
    assert np.abs(expected).max() > 0.01


def test_one_step_is_grad_dot():
    """One full-batch step of tiny size: lr / n times the inner product, to first order."""
    task = module_task()
    scores = further(lr=1e-6, n_steps=1, batch_size=21, removal="subtract", n_repeats=40).score(
        *QUERIES
    )
    module = make_module(batch_norm=True)
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    eval_task = as_task(module, loss=nn.CrossEntropyLoss())
    products = GradDot().fit(eval_task, X, Y).score(*QUERIES)
    agreement = np.corrcoef(scores.ravel(), products.ravel())[0, 1]
    assert agreement > 0.7  # dropout is active in training
    assert task.module.training is False


def test_skorch_net_brings_its_optimizer_rate_and_batch_size():
    net = fitted_net(momentum=0.9, lr=0.05)
    measured = FurtherTraining(epochs=2, left_out=[0, 9], n_repeats=1, random_state=0)
    measured.fit(net, X.numpy(), Y.numpy())
    config = measured.config_
    assert (config.optimizer, config.lr, config.momentum) == ("SGD", 0.05, 0.9)
    assert (config.batch_size, config.steps_per_epoch, config.n_steps) == (8, 3, 6)
    seed = int(measured.seeds_[0])
    module = net.module_.eval()
    full, *others = [
        neg_losses(
            train_alone(
                module, X, Y, removed, seed,
                lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.01),
                epochs=2,
                horizons=(2,),
            ),
            *QUERIES,
        )[0]
        for removed in (set(), {0}, {9})
    ]  # fmt: skip
    scores = measured.score(QUERIES[0].numpy(), QUERIES[1].numpy())
    expected = np.stack([full - other for other in others], axis=1)
    np.testing.assert_allclose(scores[:, [0, 9]], expected, atol=1e-12)
    assert (scores[:, 1:9] == 0).all()


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_own_state_goes_on_where_the_net_stopped(optimizer):
    extra = {"momentum": 0.9} if optimizer is torch.optim.SGD else {}
    net = fitted_net(lr=0.01, optimizer=optimizer, module=Plain, **extra)
    model = copy.deepcopy(net.module_)
    alone = optimizer(model.parameters(), lr=0.01)
    alone.load_state_dict(copy.deepcopy(net.optimizer_.state_dict()))
    for _ in range(4):
        alone.zero_grad()
        nn.functional.cross_entropy(model(X), Y).backward()
        alone.step()
    before = copy.deepcopy((net.module_.state_dict(), net.optimizer_.state_dict()))
    options = {"n_repeats": 1, "batch_size": 21, "left_out": [3], "n_steps": 4, "random_state": 0}
    ends = {}
    for state in ("own", "fresh"):
        measured = further_training(optimizer_state=state, **options)
        measured.fit(net, X.numpy(), Y.numpy()).score(*QUERIES)
        ends[state] = measured.endpoint().module.layer.weight
    torch.testing.assert_close(ends["own"], model.layer.weight, atol=1e-12, rtol=0)
    assert (ends["own"] - ends["fresh"]).abs().max() > 1e-4
    after = net.module_.state_dict(), net.optimizer_.state_dict()
    torch.testing.assert_close(after, before, atol=0, rtol=0)


class Plain(nn.Module):
    """A linear model without noise."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 3, dtype=torch.float64)

    def forward(self, X):
        return self.layer(X)


def fitted_net(lr, module=make_module, optimizer=torch.optim.SGD, momentum=None, **options):
    settings = {} if momentum is None else {"optimizer__momentum": momentum}
    if optimizer is torch.optim.SGD:
        settings["optimizer__weight_decay"] = 0.01 if module is make_module else 0.0
    net = NeuralNetClassifier(
        module, criterion=nn.CrossEntropyLoss, optimizer=optimizer, lr=lr, batch_size=8,
        max_epochs=2, train_split=None, verbose=0, **settings | options,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return net.fit(X.numpy(), Y.numpy())


def test_adjustments_are_the_same_runs_told_otherwise():
    runs = {a: further(left_out=5, adjust=a).measure(*QUERIES) for a in ("full", "center", None)}
    full, center, none = (runs[a].scores for a in ("full", "center", None))
    np.testing.assert_allclose(center, full - full.mean(-1, keepdims=True), atol=1e-15)
    drift = none - full
    np.testing.assert_allclose(drift, np.repeat(drift[..., :1], 5, -1), atol=1e-15)
    ends = [neg_losses([e.module], *QUERIES)[0] for e in endpoints_of_gold()]
    start = neg_losses([make_module()], *QUERIES)[0]
    np.testing.assert_allclose(drift[0, :, 0], start - np.mean(ends, axis=0), atol=1e-14)
    for found in runs.values():
        np.testing.assert_allclose(found.halves.mean(0), found.scores, atol=1e-15)
        np.testing.assert_allclose(found.offset, full.mean(-1), atol=1e-15)


def endpoints_of_gold():
    measured = further(left_out=5)
    for seed in measured.seeds_:
        yield measured.fitted_[0].plan.endpoint(int(seed))


def test_means_over_seeds_are_streamed_without_loss():
    measured = further(left_out=5, n_repeats=5, horizons=[1, 3])
    seeds = np.stack(list(measured.iter_seeds(*QUERIES)))
    found = measured.measure(*QUERIES)
    np.testing.assert_allclose(found.scores, seeds.mean(0), atol=1e-15)
    halves = np.stack([seeds[0::2].mean(0), seeds[1::2].mean(0)])
    np.testing.assert_allclose(found.halves, halves, atol=1e-15)
    assert found.horizons.tolist() == [1, 3] and found.unit == "steps"
    assert further(n_repeats=1).measure(*QUERIES).halves is None
    np.testing.assert_array_equal(measured.score(*QUERIES)[:, found.left_out], found.scores[-1])


def test_left_out_rows_are_spread_over_the_rows_learned_from():
    assert further(left_out=5).left_out_.tolist() == [0, 4, 8, 12, 16]
    assert further().left_out_.tolist() == list(range(21))
    assert further(left_out=[7, 2]).left_out_.tolist() == [7, 2]
    scores = further(left_out=[7, 2]).score(*QUERIES)
    assert np.flatnonzero(np.abs(scores).sum(0)).tolist() == [2, 7]
    np.testing.assert_allclose(
        scores[:, [7, 2]], further(left_out=[7, 2]).measure(*QUERIES).scores[-1]
    )


def test_held_out_rows_are_no_rows_to_leave_out():
    net = fitted_net(0.05, module=Plain)
    net.set_params(train_split=ValidSplit(3, stratified=False))
    with pytest.warns(HeldOutRowsWarning):
        measured = FurtherTraining(left_out=3, n_repeats=1).fit(net, X.numpy(), Y.numpy())
    assert np.isin(measured.left_out_, measured.train_rows_).all()
    held_out = int(np.setdiff1d(np.arange(21), measured.train_rows_)[0])
    with (
        pytest.warns(HeldOutRowsWarning),
        pytest.raises(ValueError, match=f"left_out: row {held_out} .*held out"),
    ):
        FurtherTraining(left_out=[held_out]).fit(net, X.numpy(), Y.numpy())


def test_agreement_picks_columns_and_sums_groups():
    found = further(left_out=5).measure(*QUERIES)
    other = np.random.default_rng(0).normal(size=(4, 21))
    np.testing.assert_array_equal(found.pick(other), other[:, found.left_out])
    assert found.agreement(found.scores).cosine[0] == pytest.approx(1)
    groups = np.arange(21) % 4
    grouped = further(groups=groups).measure(*QUERIES)
    expected = np.stack([other[:, groups == g].sum(1) for g in range(4)], axis=1)
    np.testing.assert_allclose(grouped.pick(other), expected)
    with pytest.raises(ValueError, match="one column for each of the 21"):
        found.pick(other[:, :9])


def test_endpoint_has_a_seed_of_its_own_and_leaves_the_model_alone():
    measured = further(left_out=2)
    first, again, second = measured.endpoint(), measured.endpoint(), measured.endpoint(1)
    weights = [e.module.first.weight for e in (first, again, second)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert torch.equal(measured.task_.module.first.weight, make_module().first.weight)
    assert not first.module.training


def test_endpoint_without_a_fit_is_the_same():
    fitted = further(left_out=[3])
    other = FurtherTraining(lr=0.1, left_out=[10**6], **SHORT)  # what is left out is not looked at
    end = other.endpoint_of(fitted.task_, make_examples(fitted.task_, X, Y), run=2)
    assert torch.equal(end.module.first.weight, fitted.endpoint(2).module.first.weight)
    assert set(vars(other)) == set(other.get_params())
    seed = endpoint_seed(fitted.fitted_[0].entropy, 2, 2)
    alone = train_alone(
        make_module(), X, Y, set(), seed, lambda p: torch.optim.SGD(p, lr=0.1), batch_size=21,
        n_steps=3, horizons=(3,),
    )  # fmt: skip
    torch.testing.assert_close(end.module.first.weight, alone[0].first.weight, atol=1e-12, rtol=0)


def test_several_models_are_averaged():
    tasks = [as_task(make_module(seed=s), loss=nn.CrossEntropyLoss()) for s in (0, 1)]
    many = FurtherTraining(lr=0.1, left_out=3, **SHORT).fit(tasks, X, Y)
    scores = many.score(*QUERIES)
    pairs = zip(many.fitted_, tasks, strict=True)
    each = [fitted.scores(make_examples(task, *QUERIES)) for fitted, task in pairs]
    np.testing.assert_allclose(scores, np.mean(each, axis=0))
    with pytest.raises(ValueError, match="fit FurtherTraining on each"):
        many.measure(*QUERIES)


def test_self_influence_is_the_diagonal():
    measured = further(left_out=[3, 8])
    expected = np.zeros(21)
    expected[[3, 8]] = np.diag(measured.measure(X[[3, 8]], Y[[3, 8]]).scores[-1])
    np.testing.assert_allclose(measured.self_influence(), expected, atol=1e-15)


def test_configuration_is_known_without_training():
    training = Training("adam", 0.01, horizons=[1, 4], batch_size=8)
    config = FurtherTraining(training=training).resolve(module_task(), 21)
    assert config.horizons == (3, 12) and config.n_steps == 12 and config.momentum == 0
    assert (config.optimizer, config.lr, config.steps_per_epoch) == ("Adam", 0.01, 3)
    with pytest.raises(AttributeError):
        config.lr = 1.0


def test_floats_of_32_bits_are_compared_in_64():
    """Scores far below a unit in the last place of the loss are not rounded to steps of it."""
    data, queries = make_data(dtype=torch.float32), make_data(3, torch.float32)
    task = as_task(make_module(torch.float32), loss=nn.CrossEntropyLoss())
    measured = FurtherTraining(lr=1e-5, n_steps=1, n_repeats=1, random_state=0).fit(task, *data)
    found = measured.measure(*queries)
    assert 0 < np.abs(found.scores).max() < 1e-5
    steps = found.scores / 2.0**-24
    assert (np.abs(steps - steps.round()) > 1e-3).mean() > 0.5
    assert (found.resolution < 1e-15).all()


WRONG = [
    ({"lr": None}, "lr: needed for NoisyNet with SGD"),
    ({"epochs": 1}, "n_steps: got 3 together with epochs=1"),
    ({"horizons": [2, 1]}, "horizons: got .*ascending"),
    ({"horizons": [1, 9]}, "horizons: the last one is 9, but n_steps=3"),
    ({"horizons": []}, "horizons: got"),
    ({"optimizer": "lbfgs"}, "'optimizer' parameter"),
    ({"optimizer": torch.optim.LBFGS}, "LBFGS does not work parameter by parameter"),
    ({"optimizer": int}, "optimizer: got the class int"),
    ({"optimizer": "adam", "momentum": 0.9}, "momentum: Adam does not have momentum"),
    ({"optimizer_params": {"beta": 1}}, "optimizer_params: SGD does not have beta"),
    ({"optimizer_params": {"nesterov": True}}, "SGD refuses them"),
    ({"optimizer_state": "own"}, "optimizer_state='own': there is no fitted optimizer"),
    ({"removal": "delete"}, "'removal' parameter"),
    ({"adjust": "mean"}, "'adjust' parameter"),
    ({"left_out": 30}, "left_out: got 30, but there are 21"),
    ({"left_out": [0, 21]}, "positions run from 0 to 21"),
    ({"left_out": [1, 1]}, "given twice"),
    ({"left_out": [0.5]}, "left_out: got float64"),
    ({"groups": [0, 1]}, "groups: got shape"),
    ({"groups": [0] * 21}, "nothing would be left"),
    ({"groups": np.arange(21) % 3, "left_out": [7]}, "list of their labels"),
    ({"n_repeats": 0}, "'n_repeats' parameter"),
]


@pytest.mark.parametrize(("change", "said"), WRONG, ids=[str(c) for c, _ in WRONG])
def test_wrong_arguments_are_named(change, said):
    with pytest.raises(ValueError, match=said):
        further(**change)


def test_the_only_row_is_not_left_out():
    for groups in (None, [0]):
        with pytest.raises(ValueError, match="X: the model learned from one row"):
            FurtherTraining(lr=0.1, groups=groups).fit(module_task(), X[:1], Y[:1])


def test_divergence_is_told():
    task = as_task(Plain(), loss=nn.MSELoss())
    measured = FurtherTraining(lr=1e200, left_out=2, **SHORT).fit(task, X, X[:, :3])
    with pytest.raises(ValueError, match=r"lr: further training under seed .*lr=1e\+200"):
        measured.score(X, X[:, :3])


def test_rates_that_do_not_fit_are_not_taken_over():
    net = fitted_net(0.05, module=Plain)
    data = X.numpy(), Y.numpy()
    with pytest.raises(ValueError, match="lr: needed for NeuralNetClassifier with Adam"):
        FurtherTraining("adam").fit(net, *data)
    summing = NeuralNetRegressor(
        Plain, criterion=nn.MSELoss, criterion__reduction="sum", lr=1e-3, max_epochs=1,
        train_split=None, verbose=0,
    ).fit(X.numpy(), X[:, :3].numpy())  # fmt: skip
    with pytest.raises(ValueError, match="criterion sums over a batch"):
        FurtherTraining().fit(summing, X.numpy(), X[:, :3].numpy())
    with pytest.raises(UnsupportedModelError):
        FurtherTraining(lr=0.1).fit(nn.Linear, X, Y)
    assert FurtherTraining(lr=0.1).fit(LogisticRegression().fit(*data), *data).config_.lr == 0.1
