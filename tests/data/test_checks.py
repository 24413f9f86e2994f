"""Errors at the border name the argument, what came, what is accepted and what to do."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from torch import nn
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from influencekit.data import make_examples
from influencekit.models import BinaryCrossEntropy, CrossEntropy, SquaredError, Task

X = np.random.default_rng(0).normal(size=(10, 3))
y = np.arange(10) % 2


def classifier(**settings):
    settings = {"classes": np.array([0, 1]), "n_features_in": 3, "name": "net", **settings}
    return Task(nn.Linear(3, 2), CrossEntropy(), **settings)


def regressor(n_outputs=1):
    return Task(nn.Linear(3, n_outputs), SquaredError(), name="net")


def changed(value, dtype=float):
    copy = X.astype(dtype)
    copy[4, 1] = value
    return copy


def refuses(task, X_, y_, error, *said, **options):
    with pytest.raises(error) as caught:
        make_examples(task, X_, y_, **options)
    message = str(caught.value)
    for part in said:
        assert part in message
    return message


class TestInputs:
    def test_lengths(self):
        refuses(classifier(), X, y[:9], ValueError, "X has 10, y has 9", "same number of rows")

    def test_lengths_of_a_dict(self):
        refuses(regressor(), {"a": X, "b": X[:4]}, None, ValueError, "X['a'] has 10, X['b'] has 4")

    def test_names_follow_the_argument(self):
        refuses(classifier(), X, y[:9], ValueError, "X_test has 10, y_test has 9", name="X_test")

    @pytest.mark.parametrize("data", [X[:, :2], pd.DataFrame(X[:, :2]), torch.tensor(X[:, :2])])
    def test_feature_count(self, data):
        refuses(classifier(), data, y, ValueError, "X: got 2 features", "net was fitted with 3")

    def test_feature_count_of_lists(self):
        refuses(classifier(), X[:, :2].tolist(), y, ValueError, "got 2 features")

    def test_feature_count_is_left_to_the_transform(self):
        task = classifier(transform=lambda X_: X_[:, :3])
        assert len(make_examples(task, np.zeros((10, 4)), y)) == 10
        task = classifier(transform=lambda X_: X_ @ np.ones((3, 3)))
        refuses(task, np.zeros((10, 4)), y, ValueError, "got 4 features", "mismatch")

    @pytest.mark.parametrize("data", [[], np.empty((0, 3)), pd.DataFrame(X[:0]), torch.empty(0, 3)])
    def test_empty(self, data):
        refuses(classifier(), data, None, ValueError, "X: got no rows", require_y=False)

    def test_no_features(self):
        refuses(regressor(), np.empty((10, 0)), y, ValueError, "(10, 0)", "no axis may be empty")

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("kind", [np.asarray, pd.DataFrame, sparse.csr_matrix, torch.tensor])
    def test_not_finite(self, kind, bad):
        refuses(classifier(), kind(changed(bad)), y, ValueError, "X: got NaN or infinity", "Impute")

    def test_not_finite_far_from_the_start(self, monkeypatch):
        monkeypatch.setattr("influencekit.data._sources.BLOCK", 4)
        refuses(classifier(), changed(np.nan), y, ValueError, "X: got NaN or infinity")

    def test_not_finite_in_a_dict(self):
        refuses(regressor(), {"a": changed(np.nan)}, y, ValueError, "X['a']: got NaN")

    def test_not_finite_after_the_transform(self):
        task = classifier(transform=lambda X_: X_ / 0.0)
        with np.errstate(divide="ignore"):
            refuses(task, X, y, ValueError, "X (after the pipeline's steps): got NaN or infinity")

    def test_not_finite_before_a_transform_that_imputes(self):
        task = classifier(transform=np.nan_to_num)
        (batch,) = make_examples(task, changed(np.nan), y).batches(10)
        assert batch.inputs[4, 1] == 0

    def test_not_finite_in_a_dataset_is_found_when_read(self):
        task = classifier(classes=None)
        data = TensorDataset(torch.tensor(changed(np.nan)), torch.tensor(y))
        examples = make_examples(task, data)
        with pytest.raises(ValueError, match="X: got NaN or infinity"):
            list(examples.batches(10))

    def test_too_large_for_the_models_dtype(self):
        message = refuses(classifier(), changed(1e300), y, ValueError, "1e+300", "torch.float32")
        assert "torch.float64" in message

    def test_transform_that_drops_rows(self):
        task = classifier(transform=lambda X_: X_[1:])
        refuses(task, X, y, ValueError, "X has 10, X after the pipeline's steps has 9")

    @pytest.mark.parametrize("dtype", [object, str, "datetime64[s]"])
    def test_dtype(self, dtype):
        data = np.ones((10, 3)).astype(int).astype(dtype)
        refuses(classifier(), data, y, TypeError, f"got dtype {data.dtype}", "OneHotEncoder")

    def test_list_of_texts_without_a_pipeline(self):
        refuses(regressor(), ["a", "b"], [0, 1], TypeError, "X: got dtype <U1", "TfidfVectorizer")

    def test_frame_with_text(self):
        frame = pd.DataFrame({"age": [1.0, 2.0], "town": ["a", "b"]})
        refuses(regressor(), frame, [0, 1], TypeError, "columns ['town']", "ColumnTransformer")

    def test_complex(self):
        for data in (X.astype(complex), torch.tensor(X).to(torch.complex64)):
            refuses(classifier(), data, y, ValueError, "X: got complex numbers", "real")

    def test_one_dimensional(self):
        said = ("X: got a one-dimensional array of shape (10,)", "np.reshape(X, (-1, 1))")
        refuses(classifier(), X[:, 0], y, ValueError, *said)
        refuses(regressor(), X[:, 0], y, ValueError, *said)
        refuses(regressor(), pd.Series(X[:, 0]), y, ValueError, *said)

    @pytest.mark.parametrize(
        "data",
        [None, "text", 3.0, iter([1]), object(), np.array(3.0), np.float64(1), torch.tensor(2)],
    )
    def test_no_data_at_all(self, data):
        refuses(regressor(), data, y, TypeError, f"X: got {type(data).__name__}", "accepted")

    def test_numbers_in_a_dict(self):
        refuses(regressor(), {"a": X, "b": 3.0}, y, TypeError, "X['b']: got float")
        refuses(regressor(), {}, y, ValueError, "X: got an empty dict")

    def test_torch_sparse(self):
        refuses(classifier(), torch.tensor(X).to_sparse(), y, TypeError, "sparse", "to_dense()")


class TestFeatureNames:
    task = classifier(feature_names_in=np.array(["a", "b", "c"], dtype=object))

    def test_same_columns_pass(self):
        assert len(make_examples(self.task, pd.DataFrame(X, columns=list("abc")), y)) == 10

    @pytest.mark.parametrize(
        ("columns", "said"),
        [
            ("acb", "the same columns in another order"),
            ("abd", "missing 'c'; unknown 'd'"),
            ("abcd", "unknown 'd'"),
        ],
    )
    def test_other_columns(self, columns, said):
        frame = pd.DataFrame(np.ones((10, len(columns))), columns=list(columns))
        refuses(self.task, frame, y, ValueError, said, "X[model.feature_names_in_]")


class TestTargets:
    def test_missing(self):
        refuses(classifier(), X, None, ValueError, "y: got None", "training examples need targets")

    def test_may_be_missing(self):
        assert make_examples(classifier(), X, require_y=False).targets is None

    def test_missing_in_a_dataset(self):
        data = TensorDataset(torch.tensor(X))
        refuses(classifier(), data, None, ValueError, "y: got None", "yields (x, y)")

    def test_given_twice(self):
        data = TensorDataset(torch.tensor(X), torch.tensor(y))
        refuses(classifier(), data, y, ValueError, "targets were given twice", "Leave y out")

    def test_unseen_label_is_named(self):
        refuses(classifier(), X, y + 1, ValueError, "y: got the label 2", "accepted are 0, 1")

    def test_unseen_text(self):
        task = classifier(classes=np.array(["no", "yes"]))
        labels = np.array(["no", "maybe"])[y]
        refuses(task, X, labels, ValueError, "got the label 'maybe'", "'no', 'yes'")

    def test_label_of_another_type(self):
        task = classifier(classes=np.array(["0", "1"]))
        refuses(task, X, y, ValueError, "got the label 0, 1", "'0', '1'")

    @pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
    def test_missing_label(self, missing):
        labels = np.array(["no", "yes"], dtype=object)[y]
        labels[3] = missing
        task = classifier(classes=np.array(["no", "yes"]))
        refuses(task, X, labels, ValueError, "y: the label in row 3 is missing")

    def test_label_nan(self):
        labels = y.astype(float)
        labels[3] = np.nan
        refuses(classifier(), X, labels, ValueError, "y: got NaN or infinity")

    def test_two_dimensional_labels(self):
        refuses(classifier(), X, np.zeros((10, 2)), ValueError, "(10, 2)", "argmax")
        column = make_examples(classifier(), X, y[:, None])
        assert column.targets.tolist() == y.tolist()

    def test_regression_nan(self):
        refuses(regressor(), X, changed(np.nan)[:, 1], ValueError, "y: got NaN or infinity")

    def test_regression_text(self):
        said = ("y: got text (<U1)", "LabelEncoder")
        refuses(regressor(), X, np.array(["a", "b"])[y], TypeError, *said)
        labels = np.array(["a", "b"], dtype=object)[y]
        refuses(regressor(), X, labels, TypeError, "y: got values that are not numbers")

    @pytest.mark.parametrize("n_outputs", [1, 3])
    def test_another_number_of_targets_than_outputs(self, n_outputs):
        said = ("y: got shape (10, 2)", f"outputs of shape ('n', {n_outputs})")
        refuses(regressor(n_outputs), X, X[:, :2], ValueError, *said)

    def test_multilabel_shape(self):
        task = Task(nn.Linear(3, 2), BinaryCrossEntropy(), name="net")
        refuses(task, X, y, ValueError, "y: got shape (10,) or (10, 1)", "one target for each")

    def test_class_positions_of_a_torch_module(self):
        task = classifier(classes=None)
        accepted = "integer class positions 0 to 1"
        refuses(task, X, y + 1, ValueError, "got the label 2, but net has 2 outputs", accepted)
        refuses(task, X, y - 1, ValueError, "got the label -1", accepted)
        refuses(task, X, y.astype(float), TypeError, "got dtype float64", "y.long()")
        refuses(task, X, y[:, None], ValueError, "got shape (10, 1)", accepted)

    def test_class_shares_of_a_torch_module(self):
        task = classifier(classes=None)
        shares = np.full((10, 2), 0.5)
        assert make_examples(task, X, shares).targets.tolist() == shares.tolist()
        refuses(task, X, np.full((10, 3), 1 / 3), ValueError, "(10, 3)", "one target for each")

    def test_scalar(self):
        refuses(classifier(), X, 1, ValueError, "y: got", "one target for each example")


class Stream(IterableDataset):
    def __iter__(self):
        return iter([(X[0], 0)])


class NoLength(Dataset):
    def __getitem__(self, i):
        return X[i], y[i]


class Triples(Dataset):
    def __len__(self):
        return 10

    def __getitem__(self, i):
        return X[i], X[i], y[i]


class TestDatasets:
    data = TensorDataset(torch.tensor(X), torch.tensor(y))

    @pytest.mark.parametrize("data", [Stream(), DataLoader(Stream())])
    def test_stream(self, data):
        refuses(classifier(), data, None, TypeError, "IterableDataset", "list(dataset)")

    def test_no_length(self):
        refuses(classifier(), NoLength(), None, TypeError, "NoLength lacks __len__", "map-style")

    def test_empty(self):
        refuses(classifier(), Subset(self.data, []), None, ValueError, "X: got an empty Subset")

    def test_too_many_values(self):
        refuses(classifier(), Triples(), None, ValueError, "yields 3 values", "((x1, x2), y)")

    def test_pipeline_refuses_a_dataset(self):
        task = classifier(transform=lambda X_: X_, name="Pipeline")
        for data in (self.data, DataLoader(self.data), {"a": X}, (X, X)):
            refuses(task, data, None, TypeError, "Pipeline", "only a Pipeline's last step")

    @pytest.mark.parametrize(
        "sampler",
        [
            SubsetRandomSampler([1, 2]),
            WeightedRandomSampler([1.0] * 10, 10),
            RandomSampler(range(10), replacement=True),
            RandomSampler(range(10), num_samples=5),
        ],
    )
    def test_sampler_that_skips_or_repeats(self, sampler):
        loader = DataLoader(self.data, sampler=sampler)
        said = (type(sampler).__name__, "every example exactly once", "Subset(dataset, rows)")
        refuses(classifier(), loader, None, ValueError, *said)

    def test_loader_without_batches(self):
        loader = DataLoader(self.data, batch_size=None)
        refuses(classifier(), loader, None, ValueError, "batch_size=None")
