"""Partitions: sizes, names, repeatability, and what they cluster by."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from torch import nn

from influencekit import GradDot, GroupAttributor, as_task
from influencekit.data import open_examples
from influencekit.groups import (
    BaseGrouper,
    ClusterGrouper,
    KMeansGrouper,
    LabelGrouper,
    RandomGrouper,
    leave_group_out,
)
from influencekit.groups._features import example_features
from tests._shared.nets import tanh_net

X, Y = load_iris(return_X_y=True)
MODEL = LogisticRegression(max_iter=2000).fit(X, Y)


class Returning(BaseGrouper):
    """A grouper of somebody else's, with a defect."""

    def __init__(self, labels):
        self.labels = labels

    def _labels(self, model, X, y):
        return self.labels


class Indexing(BaseGrouper):
    def _labels(self, model, X, y):
        return np.asarray(X)[:, 0] > 5


class Predicting(BaseGrouper):
    def _labels(self, model, X, y):
        return model.predict(X)


@pytest.mark.parametrize(
    ("options", "sizes"),
    [({"n_groups": 4}, [38, 38, 37, 37]), ({"group_size": 40}, [38, 38, 37, 37])],
)
def test_random_groups_have_equal_sizes(options, sizes):
    grouper = RandomGrouper(**options, random_state=0).fit(MODEL, X, Y)
    assert sorted(np.bincount(grouper.labels_), reverse=True) == sizes
    again = RandomGrouper(**options, random_state=0).fit_predict(MODEL, X, Y)
    np.testing.assert_array_equal(grouper.labels_, again)
    assert (RandomGrouper(**options, random_state=1).fit_predict(MODEL, X, Y) != again).any()


def test_features_against_their_formulas():
    torch.manual_seed(0)
    module = tanh_net(4, 5, 3)
    task = as_task(module, loss=nn.CrossEntropyLoss())
    examples = open_examples(task, X, Y)
    hidden = np.tanh(X @ module[0].weight.detach().numpy().T + module[0].bias.detach().numpy())
    np.testing.assert_allclose(example_features(task, examples, "inputs"), X)
    np.testing.assert_allclose(example_features(task, examples, "representations", 7), hidden)
    outputs = torch.softmax(module(torch.tensor(X)), 1).detach().numpy()
    expected = (outputs - np.eye(3)[Y]) @ module[2].weight.detach().numpy()
    np.testing.assert_allclose(example_features(task, examples, "gradients", 7), expected)
    assert not module[2]._forward_pre_hooks


class Positions(nn.Module):
    """A linear layer at every position of a sequence, outputs averaged."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 3).double()

    def forward(self, X):
        return self.layer(X).mean(1)


def test_positions_of_a_sequence_are_averaged():
    task = as_task(Positions(), loss=nn.CrossEntropyLoss())
    A = X.reshape(150, 2, 2)
    examples = open_examples(task, A, Y)
    np.testing.assert_allclose(example_features(task, examples, "representations"), A.mean(1))
    outputs = torch.softmax(task.forward(torch.tensor(A)), 1).detach().numpy()
    expected = (outputs - np.eye(3)[Y]) @ task.module.layer.weight.detach().numpy() / 2
    np.testing.assert_allclose(example_features(task, examples, "gradients"), expected)


def test_k_means_is_scikit_learns():
    grouper = KMeansGrouper(5, features="inputs", random_state=3).fit(MODEL, X, Y)
    assert isinstance(grouper.clusterer_, KMeans)
    inertia = KMeans(5, n_init=10, random_state=0).fit(X).inertia_
    assert grouper.clusterer_.inertia_ < 1.5 * inertia
    large = KMeansGrouper(5, minibatch_above=100, random_state=0).fit(MODEL, X, Y)
    assert isinstance(large.clusterer_, MiniBatchKMeans)
    assert KMeansGrouper(group_size=30, random_state=0).fit(MODEL, X, Y).n_groups_ == 5


def test_empty_clusters_are_dropped():
    class Gaps(KMeans):
        def fit_predict(self, X, y=None, sample_weight=None):
            return 2 * super().fit_predict(X)

    grouper = ClusterGrouper(Gaps(3, n_init=1, random_state=0), features="inputs")
    labels = grouper.fit_predict(MODEL, X, Y)
    np.testing.assert_array_equal(np.unique(labels), [0, 1, 2])


def test_labels_and_crossings():
    frame = pd.DataFrame({"kind": Y, "long": X[:, 0] > 6})
    grouper = LabelGrouper(frame).fit(MODEL, X, Y)
    assert grouper.n_groups_ == len(frame.drop_duplicates())
    for g, name in enumerate(grouper.group_names_):
        rows = frame[grouper.labels_ == g].drop_duplicates()
        assert len(rows) == 1
        assert name == f"kind={rows.kind.iloc[0]}, long={rows.long.iloc[0]}"
    numbers = LabelGrouper(np.arange(150) % 12).fit(MODEL, X, Y)
    np.testing.assert_array_equal(numbers.labels_, np.arange(150) % 12)
    assert list(numbers.group_names_[[2, 10]]) == ["2", "10"]
    one = LabelGrouper(pd.Series(Y)).fit(MODEL, X, Y)
    assert list(one.group_names_) == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: RandomGrouper(), "accepted is one of the two"),
        (lambda: RandomGrouper(2, group_size=3), "accepted is one of the two"),
        (lambda: RandomGrouper(151), "no more than there are rows"),
        (lambda: RandomGrouper(0), "n_groups"),
        (lambda: LabelGrouper(Y[:5]), "5 labels for 150"),
        (lambda: LabelGrouper(np.where(Y == 0, np.nan, Y)), "50 rows have a missing label"),
        (
            lambda: LabelGrouper(["a", float("nan")] * 75),
            "75 rows have a missing label .*: 1, 3, 5",
        ),
        (lambda: LabelGrouper(np.zeros((150, 1, 1))), "got shape"),
        (lambda: KMeansGrouper(3, features="weights"), "features"),
        (lambda: ClusterGrouper(LogisticRegression()), "fit_predict"),
        (lambda: LabelGrouper(RandomGrouper(2)), "got the estimator RandomGrouper.*its labels_"),
        (lambda: Returning(np.where(Y == 0, np.nan, Y)), "Returning._labels: 50 rows have a miss"),
        (lambda: Returning([None] * 150), "Returning._labels: 150 rows have a missing label"),
        (lambda: Returning(np.zeros((150, 2))), r"Returning._labels: it returned shape \(150, 2\)"),
    ],
)
def test_errors(make, said):
    with pytest.raises(ValueError, match=said):
        make().fit(MODEL, X, Y)


def test_labels_of_other_rows_are_refused():
    grouped = GroupAttributor(GradDot(), Returning([0, 1]))
    with pytest.raises(ValueError, match="Returning gave 2 labels for 150 training rows"):
        grouped.fit(MODEL, X, Y)


def test_leaving_out_the_groups_of_a_grouper_asks_for_its_labels():
    with pytest.raises(ValueError, match="groups: got the estimator RandomGrouper"):
        leave_group_out(MODEL, X, Y, X, Y, RandomGrouper(2), n_repeats=1)


@pytest.mark.parametrize(
    ("grouper", "kinds"),
    [(Predicting(), "a Task as model and a ndarray as X"), (Indexing(), "Examples as X")],
)
def test_authors_hear_what_groupers_get(grouper, kinds):
    task = as_task(MODEL)
    given = (X, Y) if isinstance(grouper, Predicting) else (open_examples(task, X, Y), None)
    with pytest.raises((AttributeError, IndexError)) as caught:
        GroupAttributor(GradDot(), grouper).fit(task, *given)
    (note,) = caught.value.__notes__
    assert kinds in note
    assert "open_examples(as_task(model), X, y)" in note
