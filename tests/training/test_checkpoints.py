"""Weights along training: each equals those of a net trained so far alone."""

import copy

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import EarlyStopping

from influencekit.exceptions import UnsupportedModelError
from influencekit.training import (
    KeepCheckpoints,
    record_checkpoints,
    retrain_on_subsets,
    train_checkpoints,
)
from influencekit.training._checkpoints import kept_checkpoints
from influencekit.training._step_checkpoints import StepCheckpoints
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
    with pytest.raises(
        UnsupportedModelError, match=r"got LogisticRegression; checkpoints .* skorch nets"
    ):
        train_checkpoints(LogisticRegression(), X, Y, [1])


def test_training_that_ended_early_is_told():
    stop = EarlyStopping(monitor="train_loss", patience=2, threshold=10.0)
    net = make_net(Dropped, callbacks=[("stop", stop)])
    with pytest.raises(
        ValueError,
        match=r"ended after \d epochs .*checkpoints \[30\] do not "
        r"exist",
    ):
        train_checkpoints(net, X, Y, [1, 30], random_state=0)


@pytest.mark.parametrize("n", [1, 3, 8])
def test_steps_that_are_kept_are_those_before_the_middle_of_each_part(n):
    """Against a plain torch loop that copies the weights before each step."""
    torch.manual_seed(0)
    module = torch.nn.Linear(2, 1)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.1)
    before = []
    with record_checkpoints(module, optimizer, n, n_steps=50) as recorder:
        for _ in range(50):
            before.append(copy.deepcopy(module.state_dict()))
            optimizer.zero_grad()
            module(torch.ones(3, 2)).square().mean().backward()
            optimizer.step()
    wanted = [int((k + 0.5) / n * 50) for k in range(n)]
    assert list(recorder.checkpoints_) == wanted
    assert recorder.n_steps_ == 50
    assert all(same(recorder.checkpoints_[step], before[step]) for step in wanted)


@pytest.mark.parametrize("length", [1, 7, 8, 60, 333, 1000])
def test_a_run_of_unknown_length_is_thinned_as_it_grows(length):
    n, kept, module = 8, StepCheckpoints(8), torch.nn.Linear(1, 1)
    for _ in range(length):
        kept.before_step(module)
        assert len(kept._states) <= 4 * n
    chosen = list(kept.finish())
    wanted = [(k + 0.5) / n * length for k in range(n)]
    assert len(chosen) == min(n, length)
    if length >= n:
        gaps = np.abs(np.array(chosen) - wanted)
        assert gaps.max() <= length / (4 * n) + 1


def test_a_net_keeps_weights_near_the_steps_wanted():
    keep = KeepCheckpoints(n=4)
    net = make_net(Dropped, max_epochs=4, train_split=None, callbacks=[("keep", keep)])
    torch.manual_seed(5)
    net.fit(X, Y)
    steps = -(-len(X) // net.batch_size) * 4
    kept = dict(net.callbacks_)["keep"].checkpoints_
    assert list(kept) == [int((k + 0.5) / 4 * steps) for k in range(4)]
    torch.manual_seed(5)
    plain = make_net(Dropped, max_epochs=4, train_split=None).fit(X, Y)
    assert same(net.module_.state_dict(), plain.module_.state_dict())
    per_epoch = steps // 4
    whole = [step for step in kept if step % per_epoch == 0]
    for step in whole:
        torch.manual_seed(5)
        so_far = make_net(Dropped, max_epochs=step // per_epoch, train_split=None).fit(X, Y)
        assert same(kept[step], so_far.module_.state_dict())
    net.partial_fit(X, Y)
    again = dict(net.callbacks_)["keep"]
    assert again.n_steps_ == 2 * steps
    assert len(again.checkpoints_) == 4
    assert list(again.checkpoints_)[2:] == [int(0.625 * 2 * steps), int(0.875 * 2 * steps)]
    net.fit(X, Y)
    assert list(dict(net.callbacks_)["keep"].checkpoints_) == list(kept)


def test_a_net_that_stops_early_keeps_as_many():
    stop = EarlyStopping("train_loss", patience=1, threshold=10.0)
    net = make_net(
        Dropped, max_epochs=400, train_split=None, callbacks=[KeepCheckpoints(n=4), stop]
    )
    net.fit(X, Y)
    keep = dict(net.callbacks_)["KeepCheckpoints"]
    assert len(net.history) < 10
    wanted = [(k + 0.5) / 4 * keep.n_steps_ for k in range(4)]
    assert np.abs(np.array(list(keep.checkpoints_)) - wanted).max() <= keep.n_steps_ / 16 + 1


def test_what_is_kept_by_step_is_not_taken_for_epochs():
    net = make_net(Dropped, max_epochs=4, callbacks=[("keep", KeepCheckpoints(n=4))]).fit(X, Y)
    step = next(iter(dict(net.callbacks_)["keep"].checkpoints_))
    assert kept_checkpoints(net, [step]) is None


@pytest.mark.parametrize("n", [0, 1.5, True, "8"])
def test_bad_numbers_of_checkpoints(n):
    module = torch.nn.Linear(1, 1)
    block = record_checkpoints(module, torch.optim.SGD(module.parameters(), lr=0.1), n)
    with pytest.raises(ValueError, match=r"n: got .*integer of 1 or more"), block:
        pass
    with pytest.raises(ValueError, match="n: got"):
        make_net(Dropped, callbacks=[KeepCheckpoints(n=n)]).fit(X, Y)


def test_epochs_and_n_exclude_each_other():
    with pytest.raises(ValueError, match="epochs, n: got both"):
        make_net(Dropped, callbacks=[KeepCheckpoints([1], n=2)]).fit(X, Y)


def test_an_optimizer_of_another_module_is_refused():
    module, other = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    block = record_checkpoints(module, optimizer)
    with pytest.raises(ValueError, match="SGD does not have parameters of Linear"), block:
        pass


def test_an_optimizer_of_a_part_of_the_module_is_recorded():
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
    optimizer = torch.optim.SGD(module[1].parameters(), lr=0.1)
    with record_checkpoints(module, optimizer, n=1) as recorder:
        optimizer.step()
    assert list(recorder.checkpoints_) == [0]
