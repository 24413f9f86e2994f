"""Fairness gaps by hand, and groups taken out one by one."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from influencekit.applications import fairness_gap, group_counterfactual

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
        remove=[2, 0],
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
    from influencekit.applications import GroupCounterfactual

    found = GroupCounterfactual(["a"], np.array([3]), np.array([0.1, 0.3]), np.array([[0.0, 0.4]]))
    assert found.effects() == pytest.approx([0.0])
    assert found.standard_errors() == pytest.approx([np.sqrt((0.02 + 0.08) / 2)])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"remove": ["z"]}, r"accepted are one or more of \['a', 'b'\]"),
        ({"sensitive": None}, "sensitive: got None"),
        ({"gap": "nothing"}, "kind: got 'nothing'"),
        ({"predicted": [1.0]}, r"accepted is \(2,\)"),
        ({"predicted": {"a": 1.0}}, r"no entry for \['b'\]"),
        ({"groups": np.zeros(3)}, "groups: got shape"),
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
