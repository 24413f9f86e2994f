"""Models retrained without groups, against models fitted one by one."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder
from skorch import NeuralNetClassifier, NeuralNetRegressor
from torch import nn

from influencekit.applications import fairness_gap
from influencekit.exceptions import InfluenceKitWarning
from influencekit.groups import (
    DemographicParityDifference,
    EqualizedOddsDifference,
    LabelGrouper,
    leave_group_out,
)
from influencekit.groups._leave_group_out import GroupLeaveOut

X, Y = load_iris(return_X_y=True)
ORDER = np.random.default_rng(0).permutation(150)
X, Y = X[ORDER], Y[ORDER]
X_TEST, Y_TEST = X[100:], Y[100:]
X, Y = X[:100], Y[:100]
GROUPS = np.random.default_rng(1).integers(0, 3, 100)
MODEL = LogisticRegression(C=0.1, max_iter=5000, tol=1e-10).fit(X, Y)


def without(group, model=MODEL, data=X, labels=Y):
    rows = np.flatnonzero(group != GROUPS)
    return LogisticRegression(**model.get_params()).fit(data[rows], labels[rows])


def test_outputs_of_rows():
    found = leave_group_out(MODEL, X, Y, X_TEST, Y_TEST, GROUPS, n_repeats=1)
    rows = np.arange(50)
    full = np.log(MODEL.predict_proba(X_TEST)[rows, Y_TEST])
    for g in range(3):
        left = np.log(without(g).predict_proba(X_TEST)[rows, Y_TEST])
        np.testing.assert_allclose(found.scores[:, g], full - left, atol=1e-6)
    assert found.sizes.tolist() == np.bincount(GROUPS).tolist()


def classes_of(p):
    """A number that needs the probabilities of all classes."""
    return (p * np.arange(1, 4)).sum(1).max()


@pytest.mark.parametrize("kind", ["array", "frame", "list", "sparse", "tensor"])
def test_a_property_of_all_classes_in_any_container(kind):
    make = {
        "array": np.asarray,
        "frame": pd.DataFrame,
        "list": lambda x: x.tolist(),
        "sparse": sparse.csr_matrix,
        "tensor": torch.tensor,
    }[kind]
    one_class = np.flatnonzero(Y_TEST == 2)
    asked = X_TEST[one_class]
    found = leave_group_out(
        MODEL, X, Y, make(asked), Y_TEST[one_class], GROUPS, n_repeats=1, left_out=["2", "0"],
        property=lambda outputs, _: (outputs.softmax(1) * torch.arange(1, 4)).sum(1).max(),
    )  # fmt: skip
    full = classes_of(MODEL.predict_proba(asked))
    expected = [full - classes_of(without(g).predict_proba(asked)) for g in (2, 0)]
    np.testing.assert_allclose(found.scores[0], expected, atol=1e-6)


def test_string_labels_and_a_frame_with_categories():
    frame = pd.DataFrame({"kind": np.array(["a", "b"])[(X[:, 0] > 5.5).astype(int)]})
    names = np.array(["x", "y", "z"])[Y]
    pipe = make_pipeline(OrdinalEncoder(), LogisticRegression()).fit(frame, names)
    found = leave_group_out(
        pipe, frame, names, frame[:9], names[:9], GROUPS, n_repeats=1,
        property=lambda outputs, _: outputs.softmax(1)[:, 2].mean(),
    )  # fmt: skip
    coded = OrdinalEncoder().fit_transform(frame)
    for g in range(3):
        model = without(g, LogisticRegression(), coded, names)
        left = model.predict_proba(coded[:9])[:, 2].mean()
        expected = pipe.predict_proba(frame[:9])[:, 2].mean() - left
        assert found.scores[0, g] == pytest.approx(expected, abs=1e-5)


def test_a_property_of_several_outputs_comes_from_one_model():
    targets = np.c_[X @ [1.0, 0, 0, 1], X @ [0, 1.0, -1, 0]] + Y[:, None]
    model = Ridge(0.5).fit(X, targets)
    found = leave_group_out(
        model, X, targets, X_TEST, np.zeros((50, 2)), GROUPS, n_repeats=1,
        property=lambda outputs, _: (outputs[:, 0] * outputs[:, 1]).mean(),
    )  # fmt: skip
    for g in range(3):
        rows = np.flatnonzero(g != GROUPS)
        left = Ridge(0.5).fit(X[rows], targets[rows]).predict(X_TEST).prod(1).mean()
        assert found.scores[0, g] == pytest.approx(model.predict(X_TEST).prod(1).mean() - left)


class Two(nn.Module):
    """Both outputs are the same number, but each training draws another start."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 1)

    def forward(self, X):
        return self.layer(X).expand(-1, 2)


def test_without_a_seed_all_outputs_are_of_the_same_training():
    A, b = X.astype(np.float32), X[:, [0, 0]].astype(np.float32)
    net = NeuralNetRegressor(Two, max_epochs=1, lr=1e-3, train_split=None, verbose=0).fit(A, b)
    found = leave_group_out(
        net, A, b, A[:5], b[:5], GROUPS, n_repeats=2, random_state=None,
        property=lambda outputs, _: (outputs[:, 0] - outputs[:, 1]).square().sum(),
    )  # fmt: skip
    # both outputs of a net are the same but for rounding; those of two trainings are not
    np.testing.assert_allclose(found.full, 0, atol=1e-9)
    np.testing.assert_allclose(found.without, 0, atol=1e-9)


@pytest.mark.parametrize("property", [None, "mean_neg_loss", lambda outputs, _: outputs.sum() > 0])
def test_trainings_that_diverged_are_named_or_nan(property):
    """Rows 0 and 1, both of group 0, make every net diverge that learns from both."""
    A, y = X.astype(np.float32), (Y > 0).astype(np.int64)
    net = NeuralNetClassifier(
        nn.Linear, module__in_features=4, module__out_features=2, max_epochs=4, lr=0.01,
        criterion=nn.CrossEntropyLoss, train_split=None, verbose=0,
    ).fit(A, y)  # fmt: skip
    A[:2], y[:2], groups = 1e30, [0, 1], np.where(np.arange(100) < 2, 0, GROUPS)
    given = (net, A, y, A[5:9], y[5:9], groups)
    options = {"property": property, "n_repeats": 2, "random_state": 0}
    with pytest.raises(ValueError, match=r"all rows under seed \d+ at all"):
        leave_group_out(*given, **options)
    with pytest.warns(InfluenceKitWarning, match="on_nan='keep': 6 of 8 trainings"):
        kept = leave_group_out(*given, on_nan="keep", **options)
    assert np.isnan(kept.full).all() and np.isfinite(kept.without[0]).all()
    assert np.isnan(kept.without[1:]).all() and np.isnan(kept.scores).all()
    assert "not_finite=" in repr(kept)


def test_a_property_that_gives_nan():
    with pytest.raises(
        ValueError, match="property: the function returned nan; accepted is one finite"
    ):
        leave_group_out(
            MODEL, X, Y, X_TEST, Y_TEST, GROUPS, n_repeats=1, property=lambda o, _: o.sum() * np.nan
        )


def test_a_class_that_no_row_has_left():
    groups = np.where(Y == 1, "ones", "rest")
    torch.manual_seed(0)
    with pytest.raises(ValueError, match="class"):
        leave_group_out(MODEL, X, Y, X_TEST, Y_TEST, groups, left_out="ones", n_repeats=1)


def test_standard_errors_by_hand():
    full, without = np.array([[1.0], [3.0]]), np.array([[[0.0], [4.0]], [[1.0], [1.0]]])
    found = GroupLeaveOut(full, without, np.array(["a", "b"]), np.array([1, 1]))
    np.testing.assert_allclose(found.scores, [[0.0, 1.0]])
    np.testing.assert_allclose(found.scores_se, [[np.sqrt((2 + 8) / 2), np.sqrt((2 + 0) / 2)]])


@pytest.mark.parametrize("single", [True, False])
@pytest.mark.parametrize("positive", [0, 1])
def test_gaps_are_those_of_decisions_without_a_threshold(single, positive):
    rng = np.random.default_rng(0)
    outputs, y, who = rng.normal(size=(40, 2)), rng.integers(0, 2, 40), rng.integers(0, 3, 40)
    p = np.exp(outputs) / np.exp(outputs).sum(1, keepdims=True)
    if single:
        outputs = outputs[:, [1]] - outputs[:, [0]]
    for gap, kind in (
        (DemographicParityDifference, "demographic_parity"),
        (EqualizedOddsDifference, "equalized_odds"),
    ):
        found = gap(who, positive)(torch.tensor(outputs), torch.tensor(y))
        expected = fairness_gap(p[:, positive], y == positive, who, kind, threshold=None)
        assert float(found) == pytest.approx(expected)
    three = rng.normal(size=(40, 3))
    p = np.exp(three) / np.exp(three).sum(1, keepdims=True)
    labels = rng.integers(0, 3, 40)
    found = EqualizedOddsDifference(who, 2)(torch.tensor(three), torch.tensor(labels))
    expected = fairness_gap(p[:, 2], labels == 2, who, "equalized_odds", threshold=None)
    assert float(found) == pytest.approx(expected)


def test_the_name_of_a_column_is_not_the_column():
    for wrong in (
        lambda: DemographicParityDifference("sexx"),
        lambda: LabelGrouper("sexx").fit(MODEL, X, Y),
    ):
        with pytest.raises(ValueError, match=r"got the text 'sexx'.*the column itself"):
            wrong()
