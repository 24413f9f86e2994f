"""Fairness gaps by hand, and groups taken out one by one."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from skorch import NeuralNetClassifier
from torch import nn

from influencekit.applications import fairness_gap, group_counterfactual
from influencekit.exceptions import InfluenceKitWarning
from influencekit.groups import DemographicParityDifference, EqualizedOddsDifference

P = [0.9, 0.6, 0.2, 0.7, 0.4, 0.1]
Y = [1, 0, 1, 1, 0, 0]
WHO = ["a", "a", "a", "b", "b", "b"]


@pytest.mark.parametrize(
    ("kind", "threshold", "expected"),
    [
        ("demographic_parity", 0.5, 2 / 3 - 1 / 3),
        ("demographic_parity", None, 1.7 / 3 - 1.2 / 3),
        ("equal_opportunity", 0.5, 1 - 1 / 2),
        ("equal_opportunity", None, 0.7 - 1.1 / 2),
        ("equalized_odds", 0.5, 1.0),
        ("equalized_odds", None, 0.6 - 0.25),
        ("accuracy", 0.5, 1 - 1 / 3),
    ],
)
def test_gaps_by_hand(kind, threshold, expected):
    assert fairness_gap(P, Y, WHO, kind, threshold=threshold) == pytest.approx(expected)
    order = np.random.default_rng(0).permutation(6)
    mixed = (np.asarray(v)[order] for v in (P, Y, WHO))
    assert fairness_gap(*mixed, kind, threshold=threshold) == pytest.approx(expected)


def people(n=150):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 2))
    sex = np.where(X[:, 1] > 0, "a", "b")
    y = (X[:, 0] + 0.8 * X[:, 1] + 0.5 * rng.normal(size=n) > 0).astype(int)
    return X, y, sex


def test_groups_taken_out_by_hand():
    X, y, sex = people()
    jobs = np.arange(150) % 3
    found = group_counterfactual(
        LogisticRegression(),
        X[:100],
        y[:100],
        X[100:],
        y[100:],
        jobs[:100],
        sensitive=sex[100:],
        left_out=[2, 0],
        predicted={0: 0.1, 1: 0.2, 2: 0.3},
        threshold=None,
        n_repeats=1,
        random_state=0,
    )

    def gap(rows):
        model = LogisticRegression().fit(X[:100][rows], y[:100][rows])
        said = model.predict_proba(X[100:])[:, 1]
        return abs(said[sex[100:] == "a"].mean() - said[sex[100:] == "b"].mean())

    full = gap(np.arange(100))
    assert found.full[0] == pytest.approx(full)
    for row, job in enumerate((2, 0)):
        without = gap(np.flatnonzero(jobs[:100] != job))
        assert found.without[row, 0] == pytest.approx(without)
        assert found.effects()[row] == pytest.approx(full - without)
    assert found.groups == [2, 0] and found.sizes.tolist() == [33, 34]
    assert found.predicted.tolist() == [0.3, 0.1]
    frame = found.to_frame()
    assert frame.loc[2, "effect"] == pytest.approx(full - found.without[0, 0])
    assert frame["standard_error"].isna().all()


def test_labels_of_any_kind_and_a_gap_of_ones_own():
    X, y, sex = people()
    names = np.where(y == 1, "yes", "no")
    seen = []

    def gap(probabilities, labels, sensitive):
        seen.append((labels, sensitive))
        return probabilities.mean()

    found = group_counterfactual(
        LogisticRegression(), X, names, X[:50], names[:50], sex, gap=gap, n_repeats=1
    )
    expected = LogisticRegression().fit(X, y).predict_proba(X[:50])[:, 1].mean()
    assert found.full[0] == pytest.approx(expected)
    assert seen[0][0].tolist() == names[:50].tolist() and seen[0][1] is None


def test_standard_errors_of_effects():
    from influencekit.applications._counterfactual import GroupCounterfactual

    found = GroupCounterfactual(["a"], np.array([3]), np.array([0.1, 0.3]), np.array([[0.0, 0.4]]))
    assert found.effects() == pytest.approx([0.0])
    assert found.standard_errors() == pytest.approx([np.sqrt((0.02 + 0.08) / 2)])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"left_out": ["z"]}, r"accepted are one or more of \['a', 'b'\]"),
        ({"sensitive": None}, "sensitive: got None"),
        ({"gap": "nothing"}, "gap: got 'nothing'"),
        ({"predicted": [1.0]}, r"accepted is \(2,\)"),
        ({"predicted": {"a": 1.0}}, r"no entry for \['b'\]"),
        ({"groups": np.zeros(3)}, "groups: got 3 labels for 40 rows"),
    ],
)
def test_errors(options, said):
    X, y, sex = people(40)
    arguments = {"groups": sex, "sensitive": sex, "n_repeats": 1, **options}
    with pytest.raises(ValueError, match=said):
        group_counterfactual(LogisticRegression(), X, y, X, y, **arguments)


def test_a_group_without_positives_is_named():
    with pytest.raises(ValueError, match="'b' has no row"):
        fairness_gap([0.1, 0.9], [1, 0], ["a", "b"], "equal_opportunity")
    with pytest.raises(ValueError, match="one shape"):
        fairness_gap([0.1, 0.9], [1, 0, 1], ["a", "b"])


NAN = float("nan")


@pytest.mark.parametrize("kind", ["demographic_parity", "equal_opportunity", "accuracy"])
@pytest.mark.parametrize("threshold", [0.5, None])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"probabilities": [NAN] * 6}, "probabilities: NaN in 6 of 6 rows: 0, 1, 2, 3, 4 and 1"),
        ({"probabilities": [0.9, 0.6, 0.2, NAN, 0.4, NAN]}, "NaN in 2 of 6 rows: 3, 5"),
        ({"probabilities": [2.0, 0.6, 0.2, 0.7, 0.4, 0.1]}, r"1 of 6 rows .*\[0, 1\]: 0; .* 2\."),
        ({"probabilities": [0.9, 0.6, -0.2, 0.7, np.inf, 0.1]}, r"2 of 6 rows .*\[0, 1\]: 2, 4;"),
        ({"sensitive": ["a"] * 6}, r"sensitive: holds the one group \['a'\]"),
        ({"sensitive": ["a", "a", NAN, "b", "b", None]}, "sensitive: 2 rows have .*: 2, 5"),
        ({"sensitive": [0.0, 0.0, 1.0, 1.0, NAN, 1.0]}, "sensitive: 1 rows have .*: 4"),
        ({"sensitive": pd.Series(WHO).where(np.arange(6) > 1)}, "sensitive: 2 rows have .*: 0, 1"),
        ({"sensitive": pd.array([1, 1, 2, 2, None, 2])}, "sensitive: 1 rows have .*: 4"),
    ],
    ids=str,
)
def test_what_cannot_be_counted_is_named(kind, threshold, change, said):
    given = {"probabilities": P, "y": Y, "sensitive": WHO, **change}
    with pytest.raises(ValueError, match=said):
        fairness_gap(**given, gap=kind, threshold=threshold)


def test_missing_classes_and_thresholds_are_named():
    with pytest.raises(ValueError, match=r"y: 1 rows have a missing label .*: 2"):
        fairness_gap(P, [1, 0, NAN, 1, 0, 0], WHO, "accuracy")
    assert fairness_gap(P, [NAN] * 6, WHO, threshold=0.5) == pytest.approx(1 / 3)  # no class
    for threshold in (NAN, -0.1, 1.1, "half", True):
        with pytest.raises(ValueError, match=r"threshold: got .*numbers between 0 and 1"):
            fairness_gap(P, Y, WHO, threshold=threshold)
    for edge in (0, 1.0):
        assert fairness_gap(P, Y, WHO, threshold=edge) == 0  # everybody alike


def poisoned():
    """People, and a net that diverges if it learns from both of the first two rows."""
    X, y, sex = people(60)
    y[:2], sex[:2], jobs = [0, 1], "a", np.arange(60) % 3
    jobs[:2] = 0
    X[:2] = 1e30
    net = NeuralNetClassifier(
        nn.Linear, module__in_features=2, module__out_features=2, max_epochs=4, lr=0.1,
        criterion=nn.CrossEntropyLoss, train_split=None, verbose=0,
    )  # fmt: skip
    return net, X.astype(np.float32), y, sex, jobs


def test_models_that_diverged_are_named_or_nan():
    net, X, y, sex, jobs = poisoned()
    data = (X, y, X[5:40], y[5:40], jobs)
    options = {"sensitive": sex[5:40], "n_repeats": 2, "random_state": 0, "left_out": [0, 1]}
    for gap in ("demographic_parity", "accuracy", lambda p, y, s: p.mean() > 0.5):
        with pytest.raises(ValueError, match=r"all rows under seed \d+ at all 35 queries"):
            group_counterfactual(net, *data, gap=gap, **options)
        with pytest.warns(InfluenceKitWarning, match="4 of 6 trainings"):
            kept = group_counterfactual(net, *data, gap=gap, on_nan="keep", **options)
        assert np.isnan(kept.full).all() and np.isnan(kept.without[1]).all()
        assert np.isfinite(kept.without[0]).all()  # without both of the rows
        assert np.isnan(kept.effects()).all() and "not_finite=4" in repr(kept)
        assert kept.to_frame()["without"].isna().tolist() == [False, True]
    group_counterfactual(net, X[2:], y[2:], *data[2:4], jobs[2:], **options)


def test_a_gap_of_ones_own_that_gives_nan():
    X, y, sex = people(40)
    with pytest.raises(ValueError, match="gap: the function gave nan for finite probabilities"):
        group_counterfactual(
            LogisticRegression(), X, y, X, y, sex, gap=lambda p, y, s: NAN, n_repeats=1
        )


def test_missing_groups_are_named():
    X, y, sex = people(40)
    broken = sex.astype(object)
    broken[[3, 7]] = NAN
    with pytest.raises(ValueError, match=r"groups: 2 rows have a missing label .*: 3, 7"):
        group_counterfactual(LogisticRegression(), X, y, X, y, broken, sensitive=sex)
    with pytest.raises(ValueError, match=r"sensitive: 2 rows have a missing label .*: 3, 7"):
        group_counterfactual(LogisticRegression(), X, y, X, y, sex, sensitive=broken)
    for gap in (DemographicParityDifference, EqualizedOddsDifference):
        with pytest.raises(ValueError, match=r"sensitive: 2 rows have a missing label .*: 3, 7"):
            gap(broken)
