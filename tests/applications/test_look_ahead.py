"""LookAheadSelector against plain torch: trial steps, differences, and what is kept."""

import copy

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch import NeuralNetClassifier
from skorch.callbacks import GradientNormClipping
from skorch.dataset import ValidSplit
from torch import nn

from influencekit.applications import LookAheadSelector
from influencekit.applications import _look_ahead as window_module
from tests.training._training_nets import Dropped, Logits, make_data

X, Y = make_data(40)
X_VAL, Y_VAL = make_data(60)
X_VAL, Y_VAL = X_VAL[40:], Y_VAL[40:]


class Smooth(Logits):
    """Differences need a net without kinks."""

    def forward(self, X):
        return self.second(torch.tanh(self.first(X)))


def make_net(module=Smooth, optimizer=torch.optim.AdamW, callbacks=(), **options):
    torch.manual_seed(1)
    settings = {
        "criterion": nn.CrossEntropyLoss,
        "lr": 0.02,
        "batch_size": 8,
        "max_epochs": 2,
        "iterator_train__shuffle": True,
        "train_split": None,
        "verbose": 0,
        "classes": [0, 1, 2],
    }
    return NeuralNetClassifier(
        module, optimizer=optimizer, callbacks=list(callbacks), **settings | options
    )


def selecting(horizon=2, keep=0.5, module=Smooth, optimizer=torch.optim.AdamW, **options):
    own = {n: options.pop(n) for n in ("every", "curvature") if n in options}
    selector = LookAheadSelector(X_VAL, Y_VAL, horizon=horizon, keep=keep, **own)
    callbacks = [("look_ahead", selector), *options.pop("callbacks", ())]
    return make_net(module, optimizer, callbacks, **options)


def selector_of(net):
    return dict(net.callbacks_)["look_ahead"]


def validation_loss_after(net, batches, weights, max_norm):
    """Validation loss after steps of the real optimizer on weighted rows, from where it stands."""
    module = copy.deepcopy(net.module_)
    optimizer = type(net.optimizer_)(module.parameters())
    optimizer.load_state_dict(copy.deepcopy(net.optimizer_.state_dict()))
    for rows, w in zip(batches, weights, strict=True):
        optimizer.zero_grad()
        losses = nn.functional.cross_entropy(
            module(torch.as_tensor(X[rows])), torch.as_tensor(Y[rows]), reduction="none"
        )
        w = torch.as_tensor(w)
        ((w * losses).sum() / w.sum()).backward()
        if max_norm is not None:
            nn.utils.clip_grad_norm_(module.parameters(), max_norm)
        optimizer.step()
    with torch.no_grad():
        outputs = module(torch.as_tensor(X_VAL))
        return float(nn.functional.cross_entropy(outputs, torch.as_tensor(Y_VAL)))


@pytest.mark.parametrize(
    ("optimizer", "max_norm", "options"),
    [
        (torch.optim.AdamW, None, {"optimizer__weight_decay": 0.1}),
        (torch.optim.SGD, None, {"optimizer__momentum": 0.9, "optimizer__nesterov": True}),
        (torch.optim.Adam, 0.3, {}),
    ],
)
@pytest.mark.parametrize("horizon", [1, 4])
def test_scores_are_derivatives_of_trial_steps(monkeypatch, optimizer, max_norm, options, horizon):
    """In the second epoch, so that the optimizer has a memory; all steps of a block."""
    seen = []
    plain = window_module.LookAheadWindow.scores

    def spy(self, first, n_scored, horizon):
        batches = self.replay.trajectory.batches
        steps = [(first + i) % len(batches) for i in range(max(horizon, 1))]
        stood = copy.deepcopy([self.net.module_, self.net.optimizer_.state_dict()])
        found = plain(self, first, n_scored, horizon)
        seen.append((stood, [batches[s] for s in steps], list(found)))
        after = copy.deepcopy([self.net.module_, self.net.optimizer_.state_dict()])
        for a, b in zip(stood[0].parameters(), after[0].parameters(), strict=True):
            assert torch.equal(a, b)
        return found

    monkeypatch.setattr(window_module.LookAheadWindow, "scores", spy)
    clip = [GradientNormClipping(max_norm)] if max_norm else []
    net = selecting(horizon, 0.5, optimizer=optimizer, every=horizon, callbacks=clip, **options)
    net.fit(X, Y)
    (module, state), batches, found = seen[3 if horizon == 4 else 6]
    assert len(found) == horizon or len(found) == 1
    stand = copy.copy(net)
    stand.module_ = module
    stand.optimizer_ = type(net.optimizer_)(module.parameters())
    stand.optimizer_.load_state_dict(state)
    h = 1e-4
    for i, scores in enumerate(found):
        for row in range(0, len(scores), 3):
            values = []
            for sign in (1, -1):
                weights = [np.ones(len(rows)) for rows in batches]
                weights[i][row] += sign * h
                values.append(validation_loss_after(stand, batches, weights, max_norm))
            slope = -(values[0] - values[1]) / (2 * h)
            np.testing.assert_allclose(scores[row], slope, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("horizon", [0, 3])
@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD])
def test_keeping_all_is_training_as_ever(horizon, optimizer):
    """Trial steps leave no trace: parameters, moments, dropout's noise, order of batches."""
    for module in (Smooth, Dropped):
        plain = make_net(module, optimizer).fit(X, Y)
        chosen = selecting(horizon, 1.0, module, optimizer).fit(X, Y)
        for a, b in zip(plain.module_.parameters(), chosen.module_.parameters(), strict=True):
            assert torch.equal(a, b)
        selector = selector_of(chosen)
        assert (selector.n_kept_ == 2).all() and (selector.n_seen_ == 2).all()


def test_horizon_zero_is_the_present_gradient():
    """Plain SGD: -lr <grad L_val, c (grad loss_i - g)>, at the parameters before the step."""
    net = selecting(0, 0.25, optimizer=torch.optim.SGD, max_epochs=1, batch_size=40)
    net.fit(X, Y)
    start = selector_of(net)
    module = make_net().initialize().module_

    def gradient(inputs, targets):
        loss = nn.functional.cross_entropy(
            module(torch.as_tensor(inputs)), torch.as_tensor(targets)
        )
        return torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, module.parameters())])

    target, mean = gradient(X_VAL, Y_VAL), gradient(X, Y)
    expected = [
        0.02 * float(target @ (gradient(X[i : i + 1], Y[i : i + 1]) - mean)) / 40 for i in range(40)
    ]
    np.testing.assert_allclose(start.values_, expected, rtol=1e-9, atol=1e-15)
    best = np.sort(np.argsort(expected)[-10:])
    np.testing.assert_array_equal(np.flatnonzero(start.n_kept_), best)


def test_helpful_keeps_positive_scores_and_at_least_one():
    selector = LookAheadSelector(X_VAL, Y_VAL, keep="helpful")
    np.testing.assert_array_equal(selector._pick(np.array([1.0, -1.0, 0.5, 0.0])), [0, 2])
    np.testing.assert_array_equal(selector._pick(np.array([-2.0, -1.0])), [1])
    selector.keep = 0.3
    np.testing.assert_array_equal(selector._pick(np.arange(10.0)), [7, 8, 9])
    np.testing.assert_array_equal(selector._pick(np.array([0.0, 1.0])), [1])


def test_the_end_of_training_is_the_last_horizon(monkeypatch):
    seen = []
    plain = window_module.LookAheadWindow.scores
    monkeypatch.setattr(
        window_module.LookAheadWindow,
        "scores",
        lambda self, *args: seen.append(args) or plain(self, *args),
    )
    net = selecting(3, every=2).fit(X, Y)  # two epochs of five steps
    assert seen == [
        (0, 2, 3), (2, 2, 3), (4, 1, 3),
        (0, 2, 3), (2, 2, 3), (4, 1, 1),
    ]  # fmt: skip
    trials = 8 * (3 * 5 + 1)
    assert selector_of(net).n_gradients_ == 3 * trials + 6 * len(X_VAL) + 40


def test_held_out_rows_are_not_chosen_from():
    net = selecting(1, 0.5, train_split=ValidSplit(5))
    net.fit(X, Y)
    selector = selector_of(net)
    assert selector.n_seen_.max() == 2 and (selector.n_seen_ == 0).sum() == 8
    np.testing.assert_array_equal(selector.values_ == 0, selector.n_seen_ == 0)


def test_wrong_labels_are_left_out_and_the_net_is_better_for_it():
    X_noisy, truth = make_data(240)
    X_clean, Y_clean = make_data(400)
    X_clean, Y_clean = X_clean[240:], Y_clean[240:]
    wrong = np.arange(240) % 3 == 0
    noisy = np.where(wrong, (truth + 1) % 3, truth)
    plain = make_net(max_epochs=6).fit(X_noisy, noisy)
    net = selecting(2, max_epochs=6).fit(X_noisy, noisy)
    selector = selector_of(net)
    assert selector.n_kept_[wrong].mean() < 0.5 * selector.n_kept_[~wrong].mean()
    assert net.score(X_clean, Y_clean) > plain.score(X_clean, Y_clean)


def test_parameters_by_name_and_refits():
    net = selecting()
    copied = clone(net).set_params(callbacks__look_ahead__horizon=0, lr=0.05)
    torch.manual_seed(0)
    copied.fit(X, Y)
    assert selector_of(copied).horizon == 0 and selector_of(net.initialize()).horizon == 2
    first = selector_of(copied).n_kept_.copy()
    assert "get_iterator" not in vars(copied)
    torch.manual_seed(0)
    np.testing.assert_array_equal(selector_of(copied.fit(X, Y)).n_kept_, first)
    copied.partial_fit(X, Y)
    assert selector_of(copied).n_seen_.max() == 2


def test_bad_arguments():
    with pytest.raises(ValueError, match="every: got 3 with horizon=2"):
        selecting(2, every=3).fit(X, Y)
    for options in ({"horizon": -1}, {"keep": 0.0}, {"keep": "all"}, {"curvature": "exact"}):
        with pytest.raises(ValueError, match=f"'{next(iter(options))}' parameter"):
            selecting(**options).fit(X, Y)
    with pytest.raises(ValueError, match="num_workers=0"):
        selecting(iterator_train__num_workers=1).fit(X, Y)


def test_a_fitted_net_can_be_cloned():
    net = selecting(horizon=1).fit(X, Y)
    again = dict(clone(net).callbacks)["look_ahead"]
    assert again.get_params(deep=False).keys() == LookAheadSelector(X, Y).get_params().keys()


def test_a_net_that_diverges_is_stopped():
    with pytest.raises(ValueError, match=r"look-ahead: the scores of . rows .* epoch 1 are NaN"):
        selecting(module=Logits, optimizer=torch.optim.SGD, lr=1e300).fit(X, Y)
