"""A fit that follows another one: nothing of the first stays, also where the second fails."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from influencekit import (
    FurtherTraining,
    GradDot,
    GroupAttributor,
    InfluenceFunction,
    SurrogateLambdaSearchCV,
    TracIn,
    Training,
)

X, Y = load_iris(return_X_y=True)


def pipeline(X):
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(X, Y)


#: Attributors, parameters with which their next fit fails after it has begun, and its words.
FAILING = {
    "influence": (InfluenceFunction(), {"damping": "matched"}, "learning rate"),
    "checkpoints": (TracIn(0.1), {"learning_rates": [0.1, 0.2]}, "learning_rates: got"),
    "groups": (
        GroupAttributor(InfluenceFunction("fisher"), curvature="groups"),
        {"attributor": InfluenceFunction("ggn")},
        "accepted is InfluenceFunction",
    ),
    "search": (
        SurrogateLambdaSearchCV(InfluenceFunction(), random_state=0),
        {"dampings": [-1.0]},
        "dampings: got",
    ),
}


@pytest.mark.parametrize("name", FAILING)
@pytest.mark.filterwarnings("ignore::influencekit.exceptions.LambdaPathWarning")  # of a search
def test_a_fit_that_fails_leaves_no_scores_of_other_data(name):
    attributor, change, said = FAILING[name]
    attributor = clone(attributor).fit(pipeline(X), X, Y)
    assert attributor.score(X[:3], Y[:3]).shape == (3, 150)
    other = 10 * X + 5
    with pytest.raises(ValueError, match=said):
        attributor.set_params(**change).fit(pipeline(other), other, Y)
    for ask in (attributor.score, attributor.top_k, attributor.transform):
        with pytest.raises(NotFittedError):
            ask(X[:3], Y[:3])


def test_refused_data_leave_the_fit_as_it_was():
    attributor = GradDot().fit(pipeline(X), X, Y)
    before = attributor.score(X[:3], Y[:3])
    with pytest.raises(ValueError, match="NaN"):
        attributor.fit(pipeline(X), np.where(X > 7, np.nan, X), Y)
    np.testing.assert_array_equal(attributor.score(X[:3], Y[:3]), before)


def test_names_of_columns_go_with_their_model():
    frame = pd.DataFrame(X, columns=list("abcd"))
    attributor = GradDot().fit(LogisticRegression(max_iter=500).fit(frame, Y), frame, Y)
    assert list(attributor.feature_names_in_) == list("abcd")
    attributor.fit(LogisticRegression(max_iter=500).fit(X, Y), X, Y)
    assert not hasattr(attributor, "feature_names_in_")
    assert attributor.n_features_in_ == 4


def test_what_is_explained_is_that_of_the_fit():
    model = Ridge().fit(X, X[:, 0] + Y)
    options = {"optimizer": "sgd", "lr": 0.01, "n_steps": 3, "n_repeats": 2, "left_out": 4}
    further = FurtherTraining(**options, output="prediction", random_state=0)
    further.fit(model, X, X[:, 0] + Y)
    before = further.score(X[:3], Y[:3])[:, further.left_out_]
    further.set_params(output="neg_loss", n_repeats=7)
    np.testing.assert_array_equal(further.measure(X[:3], Y[:3]).scores[-1], before)


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ({}, {"property": "mean_neg_loss"}),
        ({"property": "mean_neg_loss"}, {"property": None}),
        ({}, {"curvature": "groups"}),
        ({}, {"reduce": "mean"}),
    ],
)
def test_groups_are_fitted_again_when_their_meaning_changes(first, then):
    model, groups = LogisticRegression(max_iter=500).fit(X, Y), np.arange(150) // 25
    grouped = GroupAttributor(InfluenceFunction("fisher"), **first)
    grouped.fit(model, X, Y, groups=groups).score(X[:3], Y[:3])
    grouped.set_params(**then)
    with pytest.raises(ValueError, match="Call fit again"):
        grouped.score(X[:3], Y[:3])
    fresh = GroupAttributor(InfluenceFunction("fisher"), **{**first, **then})
    expected = fresh.fit(model, X, Y, groups=groups).score(X[:3], Y[:3])
    np.testing.assert_allclose(
        grouped.fit(model, X, Y, groups=groups).score(X[:3], Y[:3]), expected
    )


@pytest.mark.filterwarnings("ignore::influencekit.exceptions.HeldOutRowsWarning")
def test_groups_of_models_that_held_out_other_rows():
    """Each model measures a group on the rows of it that this model learned from."""
    models = [
        MLPClassifier((4,), early_stopping=True, max_iter=30, random_state=seed).fit(X, Y)
        for seed in range(3)
    ]
    further = FurtherTraining(
        training=Training("sgd", 0.05, n_steps=2, batch_size=200), n_repeats=1, random_state=0
    )  # all rows in a batch: no order, so seeds do not matter
    groups = np.arange(150) // 4
    found = GroupAttributor(further).fit(models, X, Y, groups=groups).score(X[:4], Y[:4])
    alone = [
        GroupAttributor(further).fit(m, X, Y, groups=groups).score(X[:4], Y[:4]) for m in models
    ]
    np.testing.assert_allclose(found, np.mean(alone, axis=0), rtol=1e-6, atol=1e-12)


def test_self_influence_follows_the_attributor_inside():
    model = LogisticRegression(max_iter=500).fit(X, Y)
    search = SurrogateLambdaSearchCV(InfluenceFunction(), random_state=0).fit(model, X, Y)
    grouped = GroupAttributor(InfluenceFunction()).fit(model, X, Y, groups=Y)
    for holder, inside in ((search, search.best_attributor_), (grouped, grouped.attributor_)):
        inside.set_damping(3.0)
        np.testing.assert_array_equal(holder.self_influence(), inside.self_influence())
