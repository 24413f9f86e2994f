"""HorizonSearchCV against the same trainings one by one."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from skorch import NeuralNetClassifier
from torch import nn

from influencekit.applications import HorizonSearchCV, LookAheadSelector
from influencekit.utils._random import draw_seed
from tests.training._training_nets import make_data

FLOATS, LABELS = make_data(60)
ROWS = FLOATS.astype(np.float32), LABELS
X, Y = (part[:40] for part in ROWS)
X_VAL, Y_VAL = (part[40:] for part in ROWS)
RATES, HORIZONS = [0.02, 0.3], [None, 0, 2]


def make_net(**options):
    settings = {"lr": 7.0, "batch_size": 10, "max_epochs": 1, "train_split": None, "verbose": 0}
    return NeuralNetClassifier(
        nn.Linear,
        module__in_features=X.shape[1],
        module__out_features=3,
        criterion=nn.CrossEntropyLoss,
        classes=[0, 1, 2],
        **settings | options,
    )


@pytest.fixture(scope="module")
def search():
    selector = LookAheadSelector(X_VAL, Y_VAL, keep=0.5, every=2)
    options = {"learning_rates": RATES, "horizons": HORIZONS, "cv": 2, "random_state": 5}
    return HorizonSearchCV(make_net(), selector, **options).fit(X, Y)


def by_hand(lr, horizon, rows):
    callbacks = []
    if horizon is not None:
        every = 2 if horizon == 2 else 1
        own = X_VAL[rows], Y_VAL[rows]
        selector = LookAheadSelector(*own, horizon=horizon, keep=0.5, every=every)
        callbacks = [("look_ahead", selector)]
    torch.manual_seed(draw_seed(5))
    return make_net(lr=lr, callbacks=callbacks).fit(X, Y)


def test_every_pair_is_trained_on_all_rows_and_judged_on_validation_rows_it_has_not_seen(search):
    table = pd.DataFrame(search.cv_results_)
    folds = list(StratifiedKFold(2).split(X_VAL, Y_VAL))
    expected = [
        [by_hand(lr, h, seen).score(X_VAL[unseen], Y_VAL[unseen]) for seen, unseen in folds]
        for lr in RATES
        for h in HORIZONS
    ]
    np.testing.assert_allclose(table[["split0_test_score", "split1_test_score"]], expected)
    np.testing.assert_allclose(table["mean_test_score"], np.mean(expected, axis=1))
    assert [*zip(table["param_lr"], table["param_horizon"], strict=True)] == [
        (lr, h) for lr in RATES for h in HORIZONS
    ]
    assert len(np.unique(np.mean(expected, axis=1))) > 1
    assert np.isnan(table["n_gradients"][::3]).all() and (table["n_gradients"][1::3] > 40).all()


def test_the_best_pair_is_trained_again_with_all_validation_rows(search):
    best = int(np.argmax(search.cv_results_["mean_test_score"]))
    pair = search.cv_results_["params"][best]
    assert search.best_params_ == pair
    assert search.best_score_ == search.cv_results_["mean_test_score"][best]
    expected = by_hand(pair["lr"], pair["horizon"], np.arange(len(Y_VAL)))
    np.testing.assert_array_equal(search.predict_proba(X), expected.predict_proba(X))
    np.testing.assert_array_equal(search.predict(X), expected.predict(X))
    assert search.score(X, Y) == expected.score(X, Y)
    np.testing.assert_array_equal(search.classes_, [0, 1, 2])


def test_net_and_selector_are_left_as_they_were(search):
    assert search.estimator.lr == 7.0 and not search.estimator.initialized_
    assert search.selector.horizon == 4 and len(search.selector.y_val) == len(Y_VAL)
    assert clone(search).horizons == HORIZONS


def test_what_is_no_net_no_selector_or_no_pair_is_refused():
    selector = LookAheadSelector(X_VAL, Y_VAL)
    with pytest.raises(TypeError, match="estimator: got LogisticRegression"):
        HorizonSearchCV(LogisticRegression(), selector).fit(X, Y)
    with pytest.raises(TypeError, match="selector: got int"):
        HorizonSearchCV(make_net(), 3).fit(X, Y)
    with pytest.raises(ValueError, match="learning_rates, horizons"):
        HorizonSearchCV(make_net(), selector, horizons=[]).fit(X, Y)
