"""A Training as an object: the same as plain keywords, wherever a training is described."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from torch import nn

from influencekit import FurtherTraining, InfluenceFunction, Training, as_task

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((24, 3)), np.arange(24) % 2
MODEL = LogisticRegression().fit(X, Y)
QUERIES = X[:3] + 0.1, Y[:3]
PLAIN = {"n_repeats": 2, "left_out": 4, "random_state": 0}
DESCRIBED = [
    {"optimizer": "sgd", "lr": 0.1},
    {"optimizer": "adam", "lr": 0.01, "n_steps": 3},
    {"optimizer": torch.optim.AdamW, "lr": 0.01, "epochs": 2},
]


@pytest.mark.parametrize("described", DESCRIBED)
def test_both_forms_give_the_same_bits(described):
    short = FurtherTraining(**described, **PLAIN).fit(MODEL, X, Y)
    given = FurtherTraining(training=Training(**described), **PLAIN).fit(MODEL, X, Y)
    assert given.config_ == short.config_
    expected = short.measure(*QUERIES).scores
    np.testing.assert_array_equal(given.measure(*QUERIES).scores, expected)
    assert np.abs(expected).max() > 0
    ends = [dict(one.endpoint().module.named_parameters()) for one in (short, given)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_the_numbers_without_a_fit():
    training = Training("sgd", 0.1, epochs=3, batch_size=8)
    config = training.resolve(as_task(MODEL), 24)
    assert config == FurtherTraining(training=training).resolve(as_task(MODEL), 24)
    assert (config.optimizer, config.lr, config.batch_size, config.n_steps) == ("SGD", 0.1, 8, 9)


def test_an_influence_function_takes_it_for_matched_damping_and_for_the_endpoint():
    training = Training("sgd", 0.05, n_steps=4, batch_size=24)
    further = FurtherTraining(training=training, random_state=3)
    matched = InfluenceFunction(damping="matched", further_training=training).fit(MODEL, X, Y)
    assert matched.damping_ == pytest.approx(1 / (0.05 * 4))
    torch.manual_seed(0)
    net = as_task(nn.Linear(3, 2).double(), loss=nn.CrossEntropyLoss())
    tensors = torch.from_numpy(X), torch.from_numpy(Y)
    for at in ("predicted", "endpoint"):
        scores = [
            InfluenceFunction(damping=0.1, at=at, further_training=one, random_state=3)
            .fit(net, *tensors)
            .score(*tensors)
            for one in (training, further, training)
        ]
        np.testing.assert_array_equal(scores[0], scores[1])
        np.testing.assert_array_equal(scores[0], scores[2])


def test_parameters_of_it_are_set_from_outside():
    further = FurtherTraining(training=Training("sgd", 0.1), **PLAIN)
    assert further.get_params()["training__lr"] == 0.1
    copy = clone(further).set_params(training__lr=0.2, training__n_steps=2)
    assert (copy.training.lr, copy.training.n_steps, further.training.lr) == (0.2, 2, 0.1)
    assert copy.fit(MODEL, X, Y).config_.lr == 0.2
    influence = InfluenceFunction(damping="matched", further_training=copy.training)
    influence.set_params(further_training__n_steps=5).fit(MODEL, X, Y)
    assert influence.damping_ == pytest.approx(1 / (0.2 * 5))
    assert repr(pickle.loads(pickle.dumps(copy.training))) == repr(copy.training)
    with pytest.raises(ValueError, match=r"Did you mean 'momentum'\?"):
        further.set_params(training__momentm=0.9)


@pytest.mark.parametrize(
    ("name", "value"), [("lr", 0.1), ("optimizer", "sgd"), ("epochs", 2), ("n_steps", 5)]
)
def test_both_are_refused_by_name(name, value):
    further = FurtherTraining(training=Training("sgd", 0.1), **{name: value})
    with pytest.raises(ValueError, match=rf"training, {name}: got training=Training\(.*{name}="):
        further.fit(MODEL, X, Y)


def test_what_is_rarely_said_is_said_by_the_training_alone():
    names = set(Training().get_params()) - {"optimizer", "lr", "epochs", "n_steps"}
    assert names >= {"batch_size", "horizons", "momentum", "optimizer_params"}
    for name in names:
        with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
            FurtherTraining(lr=0.1, **{name: 1})


def test_errors():
    for training, message in (
        (Training("sgd", -1.0), "'lr' parameter of Training must be"),
        (Training("sdg", 0.1), r"'optimizer' parameter of Training .*Did you mean 'sgd'\?"),
        (Training("sgd", 0.1, epochs=1, n_steps=1), "n_steps: got 1 together with epochs=1"),
        ({"lr": 0.1}, "'training' parameter of FurtherTraining must be an instance of"),
    ):
        with pytest.raises(ValueError, match=message):
            FurtherTraining(training=training).fit(MODEL, X, Y)
    with pytest.raises(ValueError, match="'lr' parameter of Training must be"):
        InfluenceFunction(damping="matched", further_training=Training("sgd", 0.0)).fit(MODEL, X, Y)
