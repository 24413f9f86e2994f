"""Weights along training: each equals those of a net trained so far alone."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import EarlyStopping

from influencekit.exceptions import UnsupportedModelError
from influencekit.training import KeepCheckpoints, retrain_on_subsets, train_checkpoints
from influencekit.training._checkpoints import kept_checkpoints
from tests.training._training_nets import Dropped, make_data, make_net

X, Y = make_data()


def same(a, b):
    return list(a) == list(b) and all(torch.equal(a[k], b[k]) for k in a)


def test_each_checkpoint_is_the_net_trained_so_far():
    net = make_net(Dropped, max_epochs=2)
    states = train_checkpoints(net, X, Y, [4, 0, 2], random_state=3)
    assert list(states) == [0, 2, 4]
    seed = int(np.random.RandomState(3).randint(2**31 - 1))
    for epoch in (2, 4):
        torch.manual_seed(seed)
        alone = make_net(Dropped, max_epochs=epoch, train_split=None).fit(X, Y)
        assert same(states[epoch], alone.module_.state_dict())
    torch.manual_seed(seed)
    start = make_net(Dropped).initialize()
    assert same(states[0], start.module_.state_dict())


def test_model_and_random_state_are_left_alone():
    net = make_net(Dropped).fit(X, Y)
    before = {k: v.clone() for k, v in net.module_.state_dict().items()}
    state = torch.get_rng_state()
    train_checkpoints(net, X, Y, [1], random_state=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert same(before, net.module_.state_dict())
    assert net.callbacks is None


def test_callback_keeps_during_the_users_own_fit():
    net = make_net(Dropped, max_epochs=3, callbacks=[("keep", KeepCheckpoints([1, 3]))])
    assert kept_checkpoints(net.initialize(), [1]) is None
    net.fit(X, Y)
    assert same(kept_checkpoints(net, [3])[3], net.module_.state_dict())
    assert not same(kept_checkpoints(net, [1])[1], net.module_.state_dict())
    assert kept_checkpoints(net, [1, 2]) is None
    net.set_params(callbacks__keep__epochs=None).partial_fit(X, Y)
    assert list(dict(net.callbacks_)["keep"].checkpoints_) == [1, 3, 4, 5, 6]
    net.fit(X, Y)
    assert list(dict(net.callbacks_)["keep"].checkpoints_) == [1, 2, 3]


def test_pipelines_keep_their_transformers():
    pipe = make_pipeline(StandardScaler(), make_net(Dropped, max_epochs=1)).fit(X, Y)
    got = train_checkpoints(pipe, X, Y, [2], random_state=0)[2]
    scaled = StandardScaler().fit_transform(X)
    assert same(got, train_checkpoints(pipe[-1], scaled, Y, [2], random_state=0)[2])


def test_a_net_that_keeps_checkpoints_still_trains_in_a_stack():
    net = make_net(Dropped, callbacks=[("keep", KeepCheckpoints())])
    options = {"n_subsets": 3, "random_state": 0}
    kept = retrain_on_subsets(net, X, Y, X[:4], Y[:4], engine="stacked", **options)
    plain = retrain_on_subsets(make_net(Dropped), X, Y, X[:4], Y[:4], **options)
    np.testing.assert_array_equal(kept.outputs, plain.outputs)


@pytest.mark.parametrize("epochs", [[], "12", [1.5], [-1], [True], 3, None])
def test_bad_epochs(epochs):
    with pytest.raises(ValueError, match=r"epochs: got .*integers of 0 or more"):
        train_checkpoints(make_net(Dropped), X, Y, epochs)


def test_other_models_are_refused():
    with pytest.raises(UnsupportedModelError, match="skorch nets, got LogisticRegression"):
        train_checkpoints(LogisticRegression(), X, Y, [1])


def test_training_that_ended_early_is_told():
    stop = EarlyStopping(monitor="train_loss", patience=2, threshold=10.0)
    net = make_net(Dropped, callbacks=[("stop", stop)])
    with pytest.raises(ValueError, match=r"ended after \d epochs .*no checkpoint of \[30\]"):
        train_checkpoints(net, X, Y, [1, 30], random_state=0)
