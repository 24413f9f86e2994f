"""Every stacked model equals training it alone with skorch under the same seed."""

import numpy as np
import pytest
import torch
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier, NeuralNetRegressor
from skorch.callbacks import EarlyStopping, EpochScoring, GradientNormClipping, LRScheduler
from torch import nn, optim

from influencekit.training import retrain_on_subsets
from influencekit.training.subsets import _stacked
from tests.training._training_nets import (
    Dropped,
    Logits,
    Normalized,
    Probabilities,
    make_data,
    make_net,
    outputs_alone,
    train_alone,
)

X, Y = make_data()
X_QUERY, Y_QUERY = make_data(7)


def stacked(net, X=X, y=Y, **options):
    settings = {"engine": "stacked", "random_state": 0}
    if "masks" not in options:
        settings["n_subsets"] = 5
    return retrain_on_subsets(net, X, y, X_QUERY.astype(X.dtype), Y_QUERY, **settings | options)


def assert_equals_alone(net, truth, X=X, y=Y, atol=1e-10):
    alone = outputs_alone(net, X, y, X_QUERY.astype(X.dtype), Y_QUERY, truth)
    np.testing.assert_allclose(truth.outputs, alone, rtol=0, atol=atol)
    assert np.ptp(alone, axis=0).max() > 1e-3  # the models do differ


OPTIMIZERS = {
    "sgd": {},
    "momentum": {"optimizer__momentum": 0.9},
    "nesterov": {"optimizer__momentum": 0.8, "optimizer__nesterov": True},
    "weight decay": {"optimizer__weight_decay": 0.1, "optimizer__momentum": 0.5},
    "adam": {"optimizer": optim.Adam, "lr": 0.02},
    "amsgrad": {"optimizer": optim.Adam, "optimizer__amsgrad": True, "lr": 0.02},
    "adamw": {"optimizer": optim.AdamW, "lr": 0.02, "optimizer__weight_decay": 0.3},
    "rmsprop": {"optimizer": optim.RMSprop, "lr": 0.01, "optimizer__centered": True},
    "adagrad": {"optimizer": optim.Adagrad, "optimizer__lr_decay": 0.1},
    "adadelta": {"optimizer": optim.Adadelta, "lr": 1.0},
    "adamax": {"optimizer": optim.Adamax, "lr": 0.02},
    "nadam": {"optimizer": optim.NAdam, "lr": 0.02},
    "radam": {"optimizer": optim.RAdam, "lr": 0.02},
    "groups": {
        "optimizer__momentum": 0.5,
        "optimizer__param_groups": [
            ("first.*", {"lr": 0.3}),
            ("*bias", {"weight_decay": 0.2, "momentum": 0.0}),
        ],
    },
}


@pytest.mark.parametrize("options", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_optimizers(options):
    net = make_net(**options)
    assert_equals_alone(net, stacked(net))


@pytest.mark.parametrize(
    "options",
    [
        {"criterion": nn.NLLLoss, "module": Probabilities},
        {"criterion__weight": torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)},
        {"criterion__reduction": "sum", "lr": 0.01},
        {"iterator_train__shuffle": False},
        {"iterator_train__drop_last": True},
        {"batch_size": -1, "max_epochs": 5},
        {"iterator_train__batch_size": 5},
        {"callbacks": "disable"},
        {"module__dtype": torch.float64, "max_epochs": 1},
    ],
    ids=lambda options: next(iter(options)),
)
def test_losses_and_iterators(options):
    net = make_net(**options)
    assert_equals_alone(net, stacked(net))


@pytest.mark.parametrize("module", [Dropped, Normalized], ids=lambda m: m.__name__)
@pytest.mark.parametrize("subset_fraction", [0.5, 0.9])
def test_dropout_and_batch_norm(module, subset_fraction):
    net = make_net(module, optimizer__momentum=0.9, lr=0.05)
    assert_equals_alone(net, stacked(net, subset_fraction=subset_fraction))


@pytest.mark.parametrize("module", [Logits, Dropped, Normalized], ids=lambda m: m.__name__)
@pytest.mark.parametrize("optimizer", [optim.SGD, optim.Adam, optim.NAdam])
def test_subsets_of_unequal_sizes(module, optimizer):
    sizes = [45, 44, 40, 33, 32, 17, 18, 18, 26]  # other numbers of steps, other last batches
    masks = np.zeros((len(sizes), 45), dtype=bool)
    for mask, size in zip(masks, sizes, strict=True):
        mask[np.random.default_rng(size).permutation(45)[:size]] = True
    net = make_net(module, optimizer=optimizer, lr=0.02, iterator_train__drop_last=True)
    net.set_params(iterator_train__drop_last=module is Normalized)  # a batch of 1 has no variance
    truth = stacked(net, masks=masks)
    assert truth.masks.sum(axis=1).tolist() == sizes
    assert_equals_alone(net, truth)


@pytest.mark.parametrize("optimizer", [optim.SGD, optim.Adam])
def test_float32(optimizer):
    X32 = X.astype(np.float32)
    net = make_net(Dropped, module__dtype=torch.float32, optimizer=optimizer, lr=0.01)
    assert_equals_alone(net, stacked(net, X32), X32, atol=1e-5)


def test_repeats_have_seeds_of_their_own():
    net = make_net(Dropped)
    truth = stacked(net, n_subsets=3, n_repeats=3)
    assert truth.outputs.shape == (3, 3, 7)
    assert len(np.unique(truth.seeds)) == 9
    assert_equals_alone(net, truth)
    assert (truth.noise_variance() > 0).all()


def test_chunks_do_not_matter(monkeypatch):
    net = make_net(Dropped)
    whole = stacked(net, n_subsets=7)
    monkeypatch.setattr(_stacked, "MAX_MODELS", 2)
    np.testing.assert_allclose(stacked(net, n_subsets=7).outputs, whole.outputs, atol=1e-12)
    monkeypatch.setattr(_stacked, "MEMORY_BUDGET", 1)
    np.testing.assert_allclose(stacked(net, n_subsets=7).outputs, whole.outputs, atol=1e-12)


def test_regressor_and_binary_classifier():
    class Line(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(5, 1, dtype=torch.float64)

        def forward(self, X):
            return self.linear(X)

    options = {"verbose": 0, "batch_size": 8, "max_epochs": 2, "iterator_train__shuffle": True}
    column = X[:, :1] * 2 + 1
    net = NeuralNetRegressor(Line, **options)
    truth = retrain_on_subsets(
        net,
        X,
        column,
        X_QUERY,
        column[:7],
        n_subsets=3,
        output="prediction",
        engine="stacked",
        random_state=1,
    )
    fits = [
        train_alone(net, X[m], column[m], int(s[0]))
        for m, s in zip(truth.masks, truth.seeds, strict=True)
    ]
    alone = np.array([fit.predict(X_QUERY)[:, 0] for fit in fits])
    np.testing.assert_allclose(truth.outputs[:, 0], alone, atol=1e-12)

    target = (X[:, 0] > 0).astype(np.float64)
    net = NeuralNetBinaryClassifier(Line, **options)
    truth = retrain_on_subsets(
        net, X, target, X_QUERY, target[:7], n_subsets=3, engine="stacked", random_state=1
    )
    fits = [
        train_alone(net, X[m], target[m], int(s[0]))
        for m, s in zip(truth.masks, truth.seeds, strict=True)
    ]
    p = np.array([fit.predict_proba(X_QUERY)[:, 1] for fit in fits])
    alone = np.where(target[:7] == 1, np.log(p), np.log1p(-p))
    np.testing.assert_allclose(truth.outputs[:, 0], alone, atol=1e-6)  # skorch casts p


class Frozen(Logits):
    """A random frozen layer, a tied weight, an unused parameter, a running buffer."""

    def __init__(self):
        super().__init__()
        self.first.requires_grad_(False)
        self.middle = nn.Linear(8, 8, bias=False, dtype=torch.float64)
        self.again = nn.Linear(8, 8, dtype=torch.float64)
        self.again.weight = self.middle.weight
        self.unused = nn.Parameter(torch.ones(2, dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(8, dtype=torch.float64))

    def forward(self, X):
        h = torch.relu(self.first(X))
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * h.detach().mean(0)  # replaced, not changed
        return self.second(torch.tanh(self.again(self.middle(h - self.mean))))


@pytest.mark.filterwarnings("ignore:model. the trainable parameters")  # they are the point
@pytest.mark.parametrize("sizes", [[20, 20, 20], [20, 21, 23]])
def test_frozen_tied_unused_and_replaced_tensors(sizes):
    net = make_net(Frozen, optimizer__weight_decay=0.1, lr=0.2)
    masks = np.array([np.arange(45) % 45 < size for size in sizes])
    assert_equals_alone(net, stacked(net, masks=masks))


class Images(nn.Module):
    """Convolution, batch norm of channels, whole channels dropped, layer norm."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, dtype=torch.float64)
        self.norm = nn.BatchNorm2d(4, dtype=torch.float64)
        self.drop = nn.Dropout2d(0.3)
        self.layer_norm = nn.LayerNorm(36, dtype=torch.float64)
        self.out = nn.Linear(36, 3, dtype=torch.float64)

    def forward(self, X):
        h = self.drop(torch.relu(self.norm(self.conv(X))))
        h = nn.functional.max_pool2d(h, 2).flatten(1)
        return self.out(self.layer_norm(h))


def test_convolutional_net(rng):
    images = rng.normal(size=(40, 1, 8, 8))
    net = make_net(Images)
    both = [
        retrain_on_subsets(
            net, images, Y[:40], images[:5], Y[:5], n_subsets=3, engine=engine, random_state=0
        )
        for engine in ("stacked", "joblib")
    ]
    np.testing.assert_allclose(both[0].outputs, both[1].outputs, atol=1e-10)


class Words(nn.Module):
    """Numbers as words, of which 0 is padding."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(4, 3, padding_idx=0, dtype=torch.float64)
        self.last = nn.Linear(3, 3, dtype=torch.float64)

    def forward(self, X):
        return self.last(torch.tanh(self.words(X.long().clamp(-1, 2) + 1)).sum(1))


def test_the_row_of_padding_is_not_trained():
    net = make_net(Words)
    assert_equals_alone(net, stacked(net))


def test_random_state_is_left_alone():
    torch.manual_seed(5)
    np.random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    stacked(make_net(Dropped), n_subsets=2)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])


def test_the_model_is_left_alone():
    net = make_net().fit(X, Y)
    before = {k: v.clone() for k, v in net.module_.state_dict().items()}
    history = len(net.history)
    stacked(net, n_subsets=2)
    assert all(torch.equal(before[k], v) for k, v in net.module_.state_dict().items())
    assert len(net.history) == history and net.train_split is not None


class OwnStep(NeuralNetClassifier):
    def train_step(self, batch, **fit_params):
        return super().train_step(batch, **fit_params)


class Noisy(Logits):
    def forward(self, X):
        return super().forward(X + 0.1 * torch.randn_like(X) if self.training else X)


class Branching(Logits):
    def forward(self, X):
        return super().forward(X if X.sum() > 0 else 2 * X)


class Recurrent(Logits):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(5, 5, batch_first=True, dtype=torch.float64)

    def forward(self, X):
        return super().forward(self.gru(X[:, None])[0][:, -1])


REFUSED = {
    "cannot be vmapped": make_net(Recurrent),
    "LBFGS is not one of": make_net(optimizer=optim.LBFGS),
    "LRScheduler": make_net(callbacks=[LRScheduler("StepLR", step_size=1)]),
    "GradientNormClipping": make_net(callbacks=[GradientNormClipping(1.0)]),
    "EarlyStopping": make_net(callbacks=[EarlyStopping("train_loss")]),
    "EpochScoring": make_net(callbacks=[EpochScoring("accuracy", on_train=True)]),
    "own train_step": OwnStep(Logits, criterion=nn.CrossEntropyLoss, verbose=0, max_epochs=2),
    "sampler, generator": make_net(iterator_train__num_workers=1),
    "random operation": make_net(Noisy),
    "data-dependent": make_net(Branching),
}


@pytest.mark.parametrize(("reason", "net"), REFUSED.items(), ids=REFUSED.keys())
def test_refused_with_the_reason(reason, net):
    with pytest.raises(ValueError, match=f"engine='stacked' cannot train this model: .*{reason}"):
        stacked(net)


@pytest.mark.parametrize("reason", ["LRScheduler", "random operation", "own train_step"])
def test_auto_takes_the_other_engine(reason):
    net = REFUSED[reason]
    truth = stacked(net, engine="auto", n_subsets=2)
    assert_equals_alone(net, truth)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output": "best"}, "output: got 'best'"),
        ({"output": lambda o, t: o}, "one number for each example"),
    ],
)
def test_wrong_outputs_are_told_before_training(monkeypatch, options, message):
    monkeypatch.setattr(_stacked, "train_stack", None)
    with pytest.raises(ValueError, match=message):
        stacked(make_net(), **options)


def test_passive_callbacks_are_accepted():
    net = make_net(callbacks=[EpochScoring("accuracy", name="valid_again")])
    assert_equals_alone(net, stacked(net, n_subsets=2))


def test_auto_trains_large_nets_one_by_one(monkeypatch):
    net, options = make_net(module=Logits), {"n_subsets": 2, "random_state": 0}
    alone = retrain_on_subsets(net, X, Y, X_QUERY, Y_QUERY, engine="joblib", **options)
    monkeypatch.setattr(_stacked, "MOST_PARAMETERS", 10)
    monkeypatch.setattr(_stacked.StackedRetrainer, "run", None)
    found = retrain_on_subsets(net, X, Y, X_QUERY, Y_QUERY, **options)
    np.testing.assert_array_equal(found.outputs, alone.outputs)
