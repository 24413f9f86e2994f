"""Examples: order, subsets, targets, and what is left untouched."""

import copy
import pickle
import tracemalloc
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import Ridge
from skorch import NeuralNetClassifier
from torch import nn

from influencekit.data import make_examples
from influencekit.exceptions import InfluenceKitWarning
from influencekit.models import BinaryCrossEntropy, CrossEntropy, CustomLoss, SquaredError, Task

X = np.random.default_rng(0).normal(size=(10, 3))
y = np.arange(10) % 2


@pytest.fixture
def task():
    return Task(nn.Linear(3, 2), CrossEntropy(), classes=np.array([0, 1]), name="net")


@pytest.fixture
def regression():
    return Task(nn.Linear(3, 1), SquaredError(), name="net")


@pytest.mark.parametrize(
    "rows",
    [
        slice(2, 9, 3),
        slice(None, None, -1),
        [4, 0, 4, -1],
        np.array([9, 1]),
        torch.tensor([3, 2]),
        np.arange(10) % 3 == 0,
        torch.arange(10) > 6,
        [],
    ],
)
def test_take_equals_indexing(rows, task):
    frame = pd.DataFrame(X, index=[f"r{i}" for i in range(10)])
    taken = make_examples(task, frame, y).take(rows)
    positions = np.arange(10)[np.asarray(rows, dtype=int) if isinstance(rows, list) else rows]
    assert len(taken) == taken.n_examples == len(positions)
    assert taken.targets.tolist() == y[positions].tolist()
    assert list(taken.index) == [f"r{i}" for i in positions]
    batches = list(taken.batches(2))
    assert sum(len(b.inputs) for b in batches) == len(positions)
    if batches:
        read = torch.cat([b.inputs for b in batches])
        assert torch.equal(read, torch.tensor(X[positions], dtype=torch.float32))
        assert torch.cat([b.targets for b in batches]).tolist() == y[positions].tolist()


def test_take_of_take(task):
    examples = make_examples(task, X, y).take([8, 6, 4, 2]).take([True, False, True, False])
    (batch,) = examples.batches(5)
    assert torch.equal(batch.inputs, torch.tensor(X[[8, 4]], dtype=torch.float32))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([10], "0 to|10 to 10 for 10"),
        ([-11], "-11"),
        (np.ones(9, bool), "9 entries for 10"),
        ([0.5], "float64"),
        ([[1]], r"shape \(1, 1\)"),
    ],
)
def test_take_refuses_positions_that_do_not_exist(rows, said, task):
    with pytest.raises(IndexError, match=said):
        make_examples(task, X, y).take(rows)


def test_batch_size_below_one_is_refused(task):
    with pytest.raises(ValueError, match="batch_size: got 0"):
        next(make_examples(task, X, y).batches(0))


def test_with_targets(task):
    examples = make_examples(task, X, y)
    other = examples.with_targets(1 - examples.targets)
    assert other.targets.tolist() == (1 - y).tolist()
    assert examples.targets.tolist() == y.tolist()
    with pytest.raises(ValueError, match="examples has 10, targets has 3"):
        examples.with_targets(torch.zeros(3))


def test_with_targets_casts_to_the_models_dtype(regression):
    examples = make_examples(regression, X, require_y=False)
    targets = examples.with_targets(torch.ones(10, 1, dtype=torch.float64)).targets
    assert targets.dtype == torch.float32


def test_examples_pass_as_they_are(task):
    examples = make_examples(task, X, y)
    assert make_examples(task, examples) is examples
    with pytest.raises(ValueError, match="given twice"):
        make_examples(task, examples, y)


def through_pickle(examples):
    return pickle.loads(pickle.dumps(examples))


@pytest.mark.parametrize("copy_of", [copy.deepcopy, through_pickle])
def test_copies_read_the_same(copy_of, task):
    examples = make_examples(task, X, y).take([1, 2])
    (batch,) = copy_of(examples).batches(2)
    assert torch.equal(batch.inputs, torch.tensor(X[[1, 2]], dtype=torch.float32))


@pytest.mark.parametrize("data", [X.astype(np.float32), torch.tensor(X, dtype=torch.float32)])
def test_in_place_work_on_a_batch_spares_the_data(data, task):
    """A module whose first layer is ReLU(inplace=True) must not reach the user's array."""
    before = copy.deepcopy(data)
    labels = y.copy()
    for batch in make_examples(task, data, labels).batches(4):
        batch.inputs.zero_()
    assert (data == before).all()


@pytest.mark.parametrize("ones", [np.ones, torch.ones])
def test_targets_are_own_copy(ones, regression):
    values = ones(10)
    values = values.astype(np.float32) if isinstance(values, np.ndarray) else values
    examples = make_examples(regression, X, values)
    values[:] = 5
    assert (examples.targets == 1).all()


def test_memmap_is_read_by_batch(task, tmp_path):
    """A file of 48 MB is opened with far less memory, and batches come from the file."""
    path = tmp_path / "X.npy"
    big = np.lib.format.open_memmap(path, mode="w+", dtype=np.float64, shape=(2_000_000, 3))
    big[-1] = 7.0
    tracemalloc.start()
    examples = make_examples(task, np.load(path, mmap_mode="r"), require_y=False)
    (batch,) = examples.take([-1]).batches(1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(examples.source.tree, np.memmap)
    assert batch.inputs.tolist() == [[7.0, 7.0, 7.0]]
    assert peak < 24e6 + 40e6  # positions of take, one block of the search for NaN


def test_arrays_are_not_copied(task):
    data = X.copy()
    assert make_examples(task, data, y).source.tree is data


@pytest.mark.parametrize(
    ("X_", "y_", "labels"),
    [
        (pd.DataFrame(X, index=range(5, 15)), y, list(range(5, 15))),
        (X, pd.Series(y, index=list("abcdefghij")), list("abcdefghij")),
        (X, y, None),
    ],
)
def test_row_labels(X_, y_, labels, task):
    index = make_examples(task, X_, y_).index
    assert (None if index is None else list(index)) == labels


class TestTargets:
    """Encoding for each loss."""

    @pytest.mark.parametrize("values", [X[:, 0], X[:, :1], X[:, 0].tolist(), pd.Series(X[:, 0])])
    def test_regression_targets_have_the_outputs_shape(self, values, regression):
        targets = make_examples(regression, X, values).targets
        assert torch.equal(targets, torch.tensor(X[:, :1], dtype=torch.float32))

    def test_integer_regression_targets_become_floats(self, regression):
        targets = make_examples(regression, X, y).targets
        assert targets.dtype == torch.float32
        assert targets.shape == (10, 1)

    def test_float_labels_match_integer_classes(self, task):
        assert make_examples(task, X, y.astype(float)).targets.tolist() == y.tolist()

    def test_boolean_labels(self):
        task = Task(nn.Linear(3, 2), CrossEntropy(), classes=np.array([False, True]))
        assert make_examples(task, X, y == 1).targets.tolist() == y.tolist()

    @pytest.mark.parametrize("dtype", [object, "category", "string", str])
    def test_text_labels(self, dtype):
        task = Task(nn.Linear(3, 2), CrossEntropy(), classes=np.array(["no", "yes"], object))
        labels = pd.Series(np.array(["no", "yes"])[y]).astype(dtype)
        assert make_examples(task, X, labels).targets.tolist() == y.tolist()

    def test_unsorted_classes(self):
        task = Task(nn.Linear(3, 2), CrossEntropy(), classes=np.array([1, 0]))
        assert make_examples(task, X, y).targets.tolist() == (1 - y).tolist()

    def test_binary_targets_are_a_float_column(self):
        task = Task(nn.Linear(3, 1).double(), BinaryCrossEntropy(), classes=np.array(["a", "b"]))
        targets = make_examples(task, X, np.array(["a", "b"])[y]).targets
        assert targets.dtype == torch.float64
        assert torch.equal(targets, torch.tensor(y[:, None], dtype=torch.float64))

    def test_multilabel_targets(self):
        task = Task(nn.Linear(3, 2), BinaryCrossEntropy())
        flags = X[:, :2] > 0
        targets = make_examples(task, X, flags).targets
        assert torch.equal(targets, torch.tensor(flags, dtype=torch.float32))

    def test_custom_loss_takes_targets_untouched(self):
        task = Task(nn.Linear(3, 2), CustomLoss(lambda outputs, targets: outputs[:, 0]))
        targets = make_examples(task, X, np.arange(40).reshape(10, 2, 2)).targets
        assert targets.dtype == torch.long
        assert targets.shape == (10, 2, 2)
        assert make_examples(task, X, X).targets.dtype == torch.float32


class TestFeatureDtypes:
    """Which integers and flags become floats."""

    def test_scikit_learns_models_read_integers_as_numbers(self):
        task = Task(nn.Linear(3, 1).double(), SquaredError(), estimator=Ridge())
        (batch,) = make_examples(task, np.arange(30).reshape(10, 3), y).batches(10)
        assert batch.inputs.dtype == torch.float64

    def test_own_estimators_keep_integers(self):
        """A class of the user's that only borrows scikit-learn's base may hold an embedding."""
        task = Task(nn.Embedding(4, 2), CrossEntropy(), estimator=Own())
        (batch,) = make_examples(task, np.arange(10) % 4, None, require_y=False).batches(10)
        assert batch.inputs.dtype == torch.long

    def test_a_single_array_of_flags_is_cast(self, task):
        (batch,) = make_examples(task, X > 0, y).batches(10)
        assert torch.equal(batch.inputs, torch.tensor(X > 0, dtype=torch.float32))

    def test_integers_reach_an_embedding(self):
        module = nn.Sequential(nn.Embedding(4, 2), nn.Flatten())
        task = Task(module, CrossEntropy())
        for ids in (np.arange(10) % 4, (np.arange(10) % 4)[:, None]):
            (batch,) = make_examples(task, ids, None, require_y=False).batches(10)
            assert batch.inputs.dtype == torch.long

    def test_skorch_net_gets_a_frames_columns_by_name(self):
        task = Task(Columns(), CrossEntropy(), estimator=NeuralNetClassifier(Columns))
        (batch,) = make_examples(task, pd.DataFrame(X, columns=["a", "b", "c"]), y).batches(10)
        assert list(batch.inputs) == ["a", "b", "c"]
        assert torch.equal(batch.inputs["b"], torch.tensor(X[:, 1:2], dtype=torch.float32))


class Own(ClassifierMixin, BaseEstimator):
    pass


class Columns(nn.Module):
    """Takes a frame's columns as skorch hands them over."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, a, b, c):
        return self.linear(torch.cat([a, b, c], dim=1))


def test_labels_in_another_order_are_told(task):
    frame = pd.DataFrame(X, index=list("abcdefghij"))
    labels = pd.Series(y, index=frame.index)
    with pytest.warns(InfluenceKitWarning, match="in another order"):
        make_examples(task, frame, labels[::-1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_examples(task, frame, labels)
        make_examples(task, frame, labels.reset_index(drop=True))
