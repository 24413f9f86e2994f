"""The group size that is chosen, against correlations taken by hand."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

from influencekit import GradDot, InfluenceFunction
from influencekit.groups import (
    GroupAttributor,
    KMeansGrouper,
    LabelGrouper,
    RandomGrouper,
    choose_group_size,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 3))
Y = (X[:, 0] + RNG.normal(size=120) > 0).astype(int)
MODEL = LogisticRegression().fit(X, Y)
FISHER = InfluenceFunction("fisher", 1e-2)
QUERIES = X[:9], Y[:9]


def grouped_by(grouper, **options):
    return GroupAttributor(FISHER, grouper, **{"curvature": "groups", **options})


def by_hand(points, scores, labels, compare):
    each = []
    for row, own in zip(scores, points, strict=True):
        if compare == "groups":
            pair = row, [own[labels == j].sum() for j in range(len(row))]
        else:
            pair = [row[j] / np.sum(labels == j) for j in labels], own
        each.append(np.corrcoef(*pair)[0, 1])
    return np.mean(each)


@pytest.mark.parametrize("compare", ["groups", "rows"])
@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_fidelity_is_the_correlation_with_point_scores(compare, reduce):
    grouped = grouped_by(KMeansGrouper(group_size=2, random_state=0), reduce=reduce)
    found = choose_group_size(
        grouped, MODEL, X, Y, *QUERIES, group_sizes=(16, 4), compare=compare, n_rows=None
    )
    points = FISHER.fit(MODEL, X, Y).score(*QUERIES)
    expected = []
    for size in (4, 16):
        labels = KMeansGrouper(group_size=size, random_state=0).fit_predict(MODEL, X, Y)
        one = GroupAttributor(FISHER, curvature="groups").fit(MODEL, X, Y, groups=labels)
        expected.append(by_hand(points, one.score(*QUERIES), labels, compare))
    assert found.sizes.tolist() == [4, 16]
    np.testing.assert_allclose(found.fidelity, expected)
    assert grouped.grouper.group_size == 2


def test_the_largest_size_that_reaches_the_wanted_fidelity():
    grouped = grouped_by(RandomGrouper(group_size=2))
    options = {"group_sizes": (1, 4, 16), "random_state": 0}
    found = choose_group_size(grouped, MODEL, X, Y, *QUERIES, **options)
    assert found.fidelity[0] > 0.999  # groups of one are the rows
    for fidelity in (*found.fidelity, 1.1):
        chosen = choose_group_size(grouped, MODEL, X, Y, *QUERIES, fidelity=fidelity, **options)
        enough = [s for s, f in zip(found.sizes, found.fidelity, strict=True) if f >= fidelity]
        assert chosen.group_size == max(enough, default=1)


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer", "ignore:.*was trained on")
def test_rows_are_drawn_from_those_that_the_model_learned_from():
    net = MLPClassifier((3,), early_stopping=True, max_iter=5, random_state=0).fit(X, Y)
    grouped = GroupAttributor(GradDot(), RandomGrouper(group_size=2))
    options = {"group_sizes": [4], "compare": "rows", "random_state": 0}
    found = choose_group_size(grouped, net, X, Y, *QUERIES, n_rows=60, **options)
    assert 0 < found.fidelity[0] < 1


@pytest.mark.parametrize(
    ("grouped", "options", "said"),
    [
        (GradDot(), {}, "grouped: got GradDot"),
        (grouped_by(LabelGrouper(Y)), {}, "has no group_size"),
        (grouped_by(None), {}, "has no group_size"),
        (grouped_by(RandomGrouper(group_size=2), curvature="points"), {}, "exact sums at any size"),
        (grouped_by(RandomGrouper(group_size=2), property="mean_neg_loss"), {}, "property"),
        (grouped_by(RandomGrouper(group_size=2)), {"group_sizes": [4, 30]}, "from 1 to 24"),
        (grouped_by(RandomGrouper(group_size=2)), {"compare": "row"}, "compare"),
    ],
)
def test_refusals(grouped, options, said):
    with pytest.raises(ValueError, match=said):
        choose_group_size(grouped, MODEL, X, Y, *QUERIES, **options)
