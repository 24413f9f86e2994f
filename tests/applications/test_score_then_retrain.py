"""Offline selection: values are those of the recorded run, and the second training uses them."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch import NeuralNetClassifier
from skorch.dataset import ValidSplit
from torch import nn

from influencekit import AdamWInfluence, SGDInfluence
from influencekit.applications import score_then_retrain
from influencekit.exceptions import InfluenceKitWarning
from influencekit.training import TrajectoryRecorder, trajectory_leave_one_out
from influencekit.training._randomness import seeded
from tests.training._training_nets import Logits, make_data

X, TRUTH = make_data(160)
X_TEST, Y_TEST = make_data(400)
X_VAL, Y_VAL = X_TEST[160:220], Y_TEST[160:220]
X_TEST, Y_TEST = X_TEST[220:], Y_TEST[220:]
WRONG = np.arange(160) % 4 == 0
Y = np.where(WRONG, (TRUTH + 1) % 3, TRUTH)


def make_net(optimizer=torch.optim.AdamW, **options):
    settings = {
        "criterion": nn.CrossEntropyLoss,
        "lr": 0.02,
        "batch_size": 16,
        "max_epochs": 5,
        "iterator_train__shuffle": True,
        "train_split": None,
        "verbose": 0,
    }
    return NeuralNetClassifier(Logits, optimizer=optimizer, **settings | options)


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD])
def test_values_agree_with_reruns_of_the_same_run(optimizer):
    lr = 0.02 if optimizer is torch.optim.AdamW else 0.1
    found = score_then_retrain(
        make_net(optimizer, lr=lr), X, Y, X_VAL, Y_VAL, stratify=False, random_state=5
    )
    seed = np.random.RandomState(5).randint(2**31 - 1)
    with seeded(int(seed)):
        net = make_net(optimizer, lr=lr, callbacks=[TrajectoryRecorder()]).fit(X, Y)
    rows = np.arange(0, 160, 4)
    truth = trajectory_leave_one_out(net, X, Y, X_VAL, Y_VAL, left_out=rows)
    changes = truth.scores.mean(axis=0)
    method = AdamWInfluence if optimizer is torch.optim.AdamW else SGDInfluence
    scores = method(curvature="hessian").fit(net, X, Y).score(X_VAL, Y_VAL)
    np.testing.assert_allclose(found.values, scores.mean(axis=0), rtol=1e-8, atol=1e-14)
    assert np.corrcoef(changes, found.values[rows])[0, 1] > 0.9
    np.testing.assert_array_equal(found.rows, np.sort(np.argsort(-found.values)[:80]))
    with seeded(int(seed)):
        second = make_net(optimizer, lr=lr).fit(X[found.rows], Y[found.rows])
    for a, b in zip(second.module_.parameters(), found.estimator.module_.parameters(), strict=True):
        assert torch.equal(a, b)


def test_wrong_labels_go_and_accuracy_comes():
    found = score_then_retrain(make_net(), X, Y, X_VAL, Y_VAL, keep=0.7, random_state=0)
    assert len(found.rows) == sum(np.ceil(0.7 * np.bincount(Y) - 1e-9))
    for label in range(3):
        own = np.flatnonzero(label == Y)
        best = own[np.argsort(-found.values[own])[: int(np.ceil(0.7 * len(own) - 1e-9))]]
        np.testing.assert_array_equal(np.sort(best), found.rows[Y[found.rows] == label])
    assert WRONG[found.rows].mean() < 0.6 * WRONG.mean()
    with seeded(0):
        plain = make_net().fit(X, Y)
    assert found.estimator.score(X_TEST, Y_TEST) > plain.score(X_TEST, Y_TEST)
    helpful = score_then_retrain(make_net(), X, Y, X_VAL, Y_VAL, keep="helpful", random_state=0)
    np.testing.assert_array_equal(helpful.rows, np.flatnonzero(helpful.values > 0))
    assert f"kept={len(found.rows)} of 160" in repr(found)


def test_pipeline_held_out_rows_and_nothing_changed():
    pipeline = make_pipeline(FunctionTransformer(), make_net(train_split=ValidSplit(5)))
    found = score_then_retrain(pipeline, X, Y, X_VAL, Y_VAL, horizon=3, keep=1.0, random_state=0)
    assert len(found.rows) == 128
    assert (np.delete(found.values, found.rows) == 0).all()
    assert not hasattr(pipeline[-1], "module_") and pipeline[-1].callbacks is None
    assert found.estimator.predict(X_TEST).shape == Y_TEST.shape


def test_bad_arguments():
    for options in (
        {"horizon": -1},
        {"horizon": 1.5},
        {"keep": 0},
        {"keep": "all"},
        {"curvature": "exact"},
    ):
        name = next(iter(options))
        with pytest.raises(ValueError, match=f"{name}: got"):
            score_then_retrain(make_net(), X, Y, X_VAL, Y_VAL, **options)
    with pytest.raises(TypeError, match="skorch net"):
        score_then_retrain(LogisticRegression(), X, Y, X_VAL, Y_VAL)


def test_a_training_that_diverged(monkeypatch):
    import influencekit.applications._score_then_retrain as module

    with pytest.raises(ValueError, match=r"training on all 160 rows under seed .*has diverged"):
        score_then_retrain(make_net(torch.optim.SGD, lr=1e200), X, Y, X_VAL, Y_VAL, random_state=0)
    fit = module._fit

    def second_diverges(estimator, X, y, seed):
        fitted = fit(estimator, X, y, seed)
        if len(X) < 160:
            torch.nn.init.constant_(fitted.module_.second.bias, torch.inf)
        return fitted

    monkeypatch.setattr(module, "_fit", second_diverges)
    arguments = (make_net(), X, Y, X_VAL, Y_VAL)
    said = "'second.bias' .* training on the .. rows that were kept, under seed"
    with pytest.raises(ValueError, match=said):
        score_then_retrain(*arguments, random_state=0)
    with pytest.warns(InfluenceKitWarning, match=said):
        kept = score_then_retrain(*arguments, random_state=0, on_nan="keep")
    assert np.isfinite(kept.values).all()
    with pytest.raises(ValueError, match="on_nan: got 'drop'"):
        score_then_retrain(*arguments, on_nan="drop")
    values = module._values
    monkeypatch.setattr(module, "_values", lambda *a, **o: values(*a, **o) * np.nan)
    with pytest.raises(ValueError, match="values of 160 rows are NaN or infinite"):
        score_then_retrain(*arguments, random_state=0)
