"""Removal curves against models fitted one by one."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import make_blobs
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import LinearSVC
from skorch import NeuralNetClassifier
from torch import nn

from influencekit.applications import removal_curve
from influencekit.applications._removal import RightClass
from influencekit.exceptions import InfluenceKitWarning
from tests._shared.nets import OneLayer
from tests._shared.tables import split


def data(classes=3):
    return split(*make_blobs(90, centers=classes, cluster_std=2.5, random_state=0), 60)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("which", ["helpful", "harmful"])
def test_accuracies_by_hand(which, classes):
    X, y, X_query, y_query = data(classes)
    scores = np.random.default_rng(0).normal(size=(4, 60))
    curve = removal_curve(
        LogisticRegression(),
        X,
        y,
        X_query,
        y_query,
        {"some": scores},
        fractions=[0.1, 0.4],
        which=which,
        n_random=2,
        n_repeats=1,
        random_state=0,
    )
    order = np.argsort(scores.sum(axis=0))
    order = order[::-1] if which == "helpful" else order
    for value, gone in zip(curve.curves["some"][:, 0], (6, 24), strict=True):
        rows = order[gone:]
        model = LogisticRegression().fit(X[rows], y[rows])
        assert value == pytest.approx(model.score(X_query, y_query))
    everything = LogisticRegression().fit(X, y).score(X_query, y_query)
    assert curve.nothing[0] == pytest.approx(everything)
    assert curve.random.shape == (2, 2)
    assert curve.means()["nothing"].tolist() == pytest.approx([everything] * 2)
    assert curve.means()["random"] == pytest.approx(curve.random.mean(axis=1))


def test_groups_go_whole_until_the_last_one():
    """The masks, seen through an output that counts them."""
    X, y, X_query, y_query = data(2)
    groups = np.repeat(["a", "b", "c"], 20)
    seen = []

    def retrained(X_subset, y_subset, seed):
        seen.append(set(np.flatnonzero(np.isin(X[:, 0], X_subset[:, 0]))))
        return LogisticRegression().fit(X_subset, y_subset)

    import influencekit.training.subsets._retrain as retraining

    original = retraining.retrain_on_subsets

    def watching(model, *args, **options):
        return original(model, *args, retrain=retrained, **options)

    retraining.retrain_on_subsets = watching
    try:
        removal_curve(
            LogisticRegression(),
            X,
            y,
            X_query,
            y_query,
            [0.0, 2.0, 1.0],
            fractions=[0.25, 0.5],
            groups=groups,
            n_random=1,
            n_repeats=1,
            random_state=0,
        )
    finally:
        retraining.retrain_on_subsets = original
    gone = [set(range(60)) - rows for rows in seen]
    _, b, c = (set(np.flatnonzero(groups == g)) for g in "abc")
    assert gone[0] == set()
    assert len(gone[1]) == 15 and gone[1] < b
    assert len(gone[2]) == 30 and gone[2] > b and gone[2] - b < c
    assert len(gone[3]) == 15 and len(gone[4]) == 30 and gone[3] < gone[4]
    assert not gone[4] <= b | c


def test_ties_and_random_rows_are_drawn_anew(monkeypatch):
    import influencekit.training.subsets._retrain as retraining

    seen = []
    original = retraining.retrain_on_subsets

    def watching(*args, masks, **options):
        seen.append(masks)
        return original(*args, masks=masks, **options)

    monkeypatch.setattr(retraining, "retrain_on_subsets", watching)
    removal_curve(
        LogisticRegression(), *data(), np.zeros(60), fractions=[0.5], n_random=3, n_repeats=1,
        random_state=0,
    )  # fmt: skip
    (masks,) = seen
    assert masks[0].all() and (masks[1:].sum(1) == 30).all()
    assert len(np.unique(masks[1:], axis=0)) == 4
    assert masks[1][:30].any() and masks[1][30:].any()


def test_errors_are_standard_errors_over_retrainings():
    X, y, X_query, y_query = data()

    net = NeuralNetClassifier(
        OneLayer,
        module__n_in=2,
        criterion=nn.CrossEntropyLoss,
        max_epochs=1,
        lr=0.05,
        train_split=None,
        verbose=0,
    )
    inputs = X.astype(np.float32), y, X_query.astype(np.float32), y_query
    curve = removal_curve(
        net, *inputs, np.arange(60.0), fractions=[0.5], n_repeats=3, n_random=2, random_state=0
    )
    assert curve.nothing.shape == (3,) and curve.random.shape == (1, 6)
    errors, means = curve.standard_errors(), curve.means()
    values = curve.curves["scores"][0]
    assert errors["scores"][0] == pytest.approx(values.std(ddof=1) / np.sqrt(3))
    assert errors["random"][0] == pytest.approx(curve.random[0].std(ddof=1) / np.sqrt(6))
    frame = curve.to_frame()
    assert frame.loc[("scores", 0.5), "mean"] == pytest.approx(means["scores"][0])
    assert set(frame.index.get_level_values(0)) == {"nothing", "random", "scores"}
    again = removal_curve(
        net, *inputs, np.arange(60.0), fractions=[0.5], n_repeats=3, n_random=2, random_state=0
    )
    np.testing.assert_array_equal(again.random, curve.random)


def test_the_right_class():
    outputs = torch.tensor([[2.0, 1.0], [0.0, 1.0]])
    assert RightClass()(outputs, torch.tensor([0, 0])).tolist() == [1, 0]
    one = torch.tensor([[2.0], [-1.0], [3.0]])
    assert RightClass()(one, torch.tensor([[1.0], [0.0], [0.0]])).tolist() == [1, 1, 0]


LABELS = np.random.default_rng(0).integers(0, 2, (90, 3))
THRESHOLD = FixedThresholdClassifier(LogisticRegression(), threshold=0.9)
MODELS_BY_THEIR_SCORE = [
    (OneVsRestClassifier(LogisticRegression()), LABELS),
    (KNeighborsClassifier(), LABELS[:, :2] + LABELS[:, 1:]),
    (THRESHOLD, LABELS[:, 0]),
    (CalibratedClassifierCV(LinearSVC(class_weight={1: 5}), cv=2, ensemble=False), LABELS[:, 0]),
]


@pytest.mark.parametrize(("model", "y"), MODELS_BY_THEIR_SCORE)
def test_accuracy_is_the_models_own_score(model, y):
    X = np.random.default_rng(1).normal(size=(90, 3)) + LABELS
    curve = removal_curve(
        clone(model).fit(X, y), X, y, X, y, np.arange(90.0), fractions=[0.2], n_random=1,
        n_repeats=1, random_state=0,
    )  # fmt: skip
    right = (clone(model).fit(X, y).predict(X) == y).reshape(90, -1).all(axis=1)
    assert np.mean(curve.nothing) == pytest.approx(right.mean())


def test_accuracy_is_not_of_regressors():
    X, y, X_query, y_query = data()
    with pytest.raises(ValueError, match="Ridge is a regressor"):
        removal_curve(Ridge(), X, 1.0 * y, X_query, 1.0 * y_query, np.zeros(60), output="accuracy")
    curve = removal_curve(
        Ridge(), X, 1.0 * y, X_query, 1.0 * y_query, np.arange(60.0), fractions=[0.5],
        n_repeats=1, random_state=0,
    )  # fmt: skip
    assert curve.output == "neg_loss"
    losses = []
    for rows in (np.arange(60), np.arange(30)):
        residuals = y_query - Ridge().fit(X[rows], y[rows]).predict(X_query)
        losses.append(np.square(residuals).mean())
    ratio = curve.curves["scores"][0, 0] / curve.nothing[0]
    assert ratio == pytest.approx(losses[1] / losses[0])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"which": "best"}, "which: got 'best'"),
        ({"fractions": [0.0]}, "between 0 and 1"),
        ({"fractions": [0.001]}, "take out one row or more"),
        ({"n_random": 0}, "n_random: got 0"),
        ({"scores": np.zeros(59)}, r"\(60,\)"),
        ({"scores": np.full(60, np.nan)}, "finite scores"),
        ({"scores": {"random": np.zeros(60)}}, "always there"),
        ({"scores": np.zeros(60), "groups": np.repeat([0, 1], 30)}, "one score for each group"),
        ({"groups": np.zeros(3)}, "groups: got 3 labels for"),
        ({"groups": np.where(np.arange(60) == 7, np.nan, 1.0)}, "groups: 1 rows have .*: 7"),
    ],
)
def test_errors(options, said):
    arguments = {"scores": np.zeros(60), **options}
    with pytest.raises(ValueError, match=said):
        removal_curve(LogisticRegression(), *data(), **arguments)


@pytest.mark.parametrize("output", ["accuracy", "neg_loss"])
def test_models_that_diverged_are_named_or_nan(output):
    """Rows 0 and 1 make every net diverge that learns from both; they are the most helpful."""
    X, y, X_query, y_query = data(2)
    X[:2], y[:2] = 1e30, [0, 1]
    net = NeuralNetClassifier(
        nn.Linear, module__in_features=2, module__out_features=2, max_epochs=4, lr=0.1,
        criterion=nn.CrossEntropyLoss, train_split=None, verbose=0,
    )  # fmt: skip
    given = (X.astype(np.float32), y, X_query.astype(np.float32), y_query, -np.arange(60.0))
    options = {"fractions": [0.5], "n_random": 1, "n_repeats": 1, "random_state": 2}
    options["output"] = output
    with pytest.raises(ValueError, match=r"all rows under seed \d+ at all 30 queries"):
        removal_curve(net, *given, **options)
    with pytest.raises(ValueError, match=r"without 50 % of the rows \(most harmful by 'scores'\)"):
        removal_curve(net, *given, which="harmful", **options)
    with pytest.warns(InfluenceKitWarning, match="on_nan='keep'"):
        kept = removal_curve(net, *given, on_nan="keep", **options)
    assert np.isnan(kept.nothing).all() and np.isfinite(kept.curves["scores"]).all()
    assert np.isnan(kept.means()["nothing"]).all() and "not_finite=" in repr(kept)
