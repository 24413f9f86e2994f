"""Every kind of input gives the same batches."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.preprocessing import StandardScaler
from skorch.dataset import Dataset as SkorchDataset
from skorch.helper import SliceDict
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from influencekit.data import make_examples
from influencekit.models import CrossEntropy, SquaredError, Task

N, D = 11, 4
LABELS = np.array(["ant", "bee", "cat"])
X = np.random.default_rng(0).normal(size=(N, D))
Y = LABELS[np.arange(N) % 3]
CODES = torch.arange(N) % 3


class Pairs(Dataset):
    """A Dataset of the most common form, with numpy items."""

    def __len__(self):
        return N

    def __getitem__(self, i):
        return X[i], int(CODES[i])


class Inputs(Pairs):
    def __getitem__(self, i):
        return X[i]


@pytest.fixture
def classifier():
    return Task(nn.Linear(D, 3), CrossEntropy(), classes=LABELS, name="net")


@pytest.fixture
def by_position():
    """A torch module: targets are class positions already."""
    return Task(nn.Linear(D, 3), CrossEntropy(), name="net")


def collect(examples, batch_size=4):
    batches = list(examples.batches(batch_size))
    assert [(b.rows.start, b.rows.stop) for b in batches] == [(0, 4), (4, 8), (8, N)]
    targets = None if examples.targets is None else torch.cat([b.targets for b in batches])
    return torch.cat([b.inputs for b in batches]), targets


def memmap(folder):
    path = folder / "X.npy"
    np.save(path, X)
    return np.load(path, mmap_mode="r")


ARRAYS = {
    "array": lambda _: X,
    "fortran": lambda _: np.asfortranarray(X),
    "reversed": lambda _: X[::-1][::-1],
    "big endian": lambda _: X.astype(">f8"),
    "long double": lambda _: X.astype(np.longdouble),
    "memmap": memmap,
    "read-only": lambda _: np.broadcast_to(X, (N, D)),
    "frame": lambda _: pd.DataFrame(X, columns=list("abcd")),
    "nullable frame": lambda _: pd.DataFrame(X).convert_dtypes(),
    "csr": lambda _: sparse.csr_matrix(X),
    "coo": lambda _: sparse.coo_array(X),
    "dok": lambda _: sparse.dok_array(X),
    "list of lists": lambda _: X.tolist(),
    "list of arrays": lambda _: list(X),
    "list of tensors": lambda _: list(torch.tensor(X)),
    "tensor": lambda _: torch.tensor(X),
    "tensor with gradient": lambda _: torch.tensor(X, requires_grad=True),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_array_kinds_give_equal_batches(kind, classifier, tmp_path):
    examples = make_examples(classifier, ARRAYS[kind](tmp_path), Y)
    inputs, targets = collect(examples)
    assert inputs.dtype == torch.float32
    assert not inputs.requires_grad
    assert torch.equal(inputs, torch.tensor(X, dtype=torch.float32))
    assert torch.equal(targets, CODES)
    assert torch.equal(examples.targets, CODES)


DATASETS = {
    "pairs": Pairs,
    "tensor dataset": lambda: TensorDataset(torch.tensor(X), CODES),
    "skorch": lambda: SkorchDataset(X, CODES.numpy()),
    "loader": lambda: DataLoader(Pairs(), batch_size=3),
    "shuffled loader": lambda: DataLoader(Pairs(), batch_size=3, shuffle=True, drop_last=True),
    "list of pairs loader": lambda: DataLoader([Pairs()[i] for i in range(N)], batch_size=2),
}


@pytest.mark.parametrize("kind", DATASETS)
def test_datasets_give_the_batches_of_arrays(kind, by_position):
    inputs, targets = collect(make_examples(by_position, DATASETS[kind]()))
    assert torch.equal(inputs, torch.tensor(X, dtype=torch.float32))
    assert torch.equal(targets, CODES)


@pytest.mark.parametrize("make", [Pairs, DATASETS["skorch"], DATASETS["tensor dataset"]])
def test_subset_keeps_its_own_order(make, by_position):
    rows = [7, 2, 5]
    batch = next(make_examples(by_position, Subset(make(), rows)).batches(3))
    assert torch.equal(batch.inputs, torch.tensor(X[rows], dtype=torch.float32))
    assert torch.equal(batch.targets, CODES[rows])


@pytest.mark.parametrize(
    "make",
    [
        Inputs,
        lambda: TensorDataset(torch.tensor(X)),
        lambda: SkorchDataset(X),  # yields a placeholder for y
        lambda: Subset(SkorchDataset(X), range(N)),
        lambda: DataLoader(Inputs()),
    ],
)
def test_dataset_of_inputs_takes_y(make, classifier):
    inputs, targets = collect(make_examples(classifier, make(), Y))
    assert torch.equal(inputs, torch.tensor(X, dtype=torch.float32))
    assert torch.equal(targets, CODES)
    assert make_examples(classifier, make(), require_y=False).targets is None


def test_dataset_labels_are_encoded_by_classes(classifier):
    named = [(X[i], Y[i]) for i in range(N)]

    def collate(items):
        return torch.tensor(np.stack([x for x, _ in items])), [label for _, label in items]

    examples = make_examples(classifier, DataLoader(named, collate_fn=collate))
    assert torch.equal(examples.targets, CODES)


class TwoInputs(nn.Module):
    """Takes an embedding's positions and a mask, by name or in order."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(6, 3)

    def forward(self, ids, mask):
        return (self.embedding(ids) * mask[..., None]).sum(1)


IDS = np.arange(N * 2).reshape(N, 2) % 6
MASK = IDS > 2


@pytest.fixture
def two_inputs():
    return Task(TwoInputs(), CrossEntropy(), name="net")


@pytest.mark.parametrize(
    "data",
    [
        {"ids": IDS, "mask": MASK},
        {"ids": IDS.tolist(), "mask": torch.tensor(MASK)},
        {"ids": IDS.astype(np.int32), "mask": MASK},
        {"ids": IDS.astype(np.uint8), "mask": MASK},
        SliceDict(ids=IDS, mask=MASK),
    ],
)
def test_dict_keeps_integers_and_flags(data, two_inputs):
    batch = next(make_examples(two_inputs, data, CODES).batches(5))
    assert torch.equal(batch.inputs["ids"], torch.tensor(IDS[:5]))
    assert torch.equal(batch.inputs["mask"], torch.tensor(MASK[:5]))
    assert two_inputs.forward(batch.inputs).shape == (5, 3)


def test_tuple_is_several_inputs(two_inputs):
    examples = make_examples(two_inputs, (IDS, MASK), CODES).take([3, 1])
    (batch,) = examples.batches(8)
    assert isinstance(batch.inputs, tuple)
    assert torch.equal(batch.inputs[0], torch.tensor(IDS[[3, 1]]))
    assert torch.equal(batch.inputs[1], torch.tensor(MASK[[3, 1]]))


def test_dataset_of_dicts_with_labels(two_inputs):
    """Batches as Hugging Face's collators make them: one dict, the targets inside."""
    items = [{"ids": IDS[i], "mask": MASK[i], "labels": int(CODES[i])} for i in range(N)]
    for data in (DataLoader(items, batch_size=4), HuggingFaceLike(items)):
        examples = make_examples(two_inputs, data)
        batch = next(examples.batches(4))
        assert set(batch.inputs) == {"ids", "mask"}
        assert torch.equal(batch.inputs["ids"], torch.tensor(IDS[:4]))
        assert torch.equal(examples.targets, CODES)


class HuggingFaceLike:
    """Not torch's Dataset, but read the same way."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        raise AssertionError("the faster __getitems__ is there")

    def __getitems__(self, positions):
        return [self.items[i] for i in positions]


def test_collate_fn_may_pad(two_inputs):
    sentences = [(list(range(1 + i % 3)), int(CODES[i])) for i in range(N)]

    def pad(items):
        width = max(len(ids) for ids, _ in items)
        ids = torch.tensor([ids + [0] * (width - len(ids)) for ids, _ in items])
        mask = torch.tensor([[1.0] * len(s) + [0.0] * (width - len(s)) for s, _ in items])
        return {"ids": ids, "mask": mask}, torch.tensor([y for _, y in items])

    examples = make_examples(two_inputs, DataLoader(sentences, collate_fn=pad))
    whole = torch.cat([two_inputs.forward(b.inputs) for b in examples.batches(N)])
    single = torch.cat([two_inputs.forward(b.inputs) for b in examples.batches(1)])
    torch.testing.assert_close(whole, single)
    assert torch.equal(examples.targets, CODES)


def test_transform_is_applied_once_to_raw_input():
    scaler = StandardScaler().fit(X)
    calls = []

    def transform(raw):
        calls.append(raw)
        return scaler.transform(raw)

    task = Task(nn.Linear(D, 3), CrossEntropy(), classes=LABELS, transform=transform)
    examples = make_examples(task, X, Y)
    first = collect(examples)[0]
    assert torch.equal(collect(examples)[0], first)
    assert torch.equal(first, torch.tensor(scaler.transform(X), dtype=torch.float32))
    assert len(calls) == 1
    assert calls[0] is X


def test_list_of_texts_into_a_transform():
    words = {"good": 1.0, "bad": -1.0}
    task = Task(
        nn.Linear(1, 1),
        SquaredError(),
        transform=lambda texts: sparse.csr_matrix([[words[t]] for t in texts]),
    )
    (batch,) = make_examples(task, ["good", "bad"], [1, 0]).batches(2)
    assert batch.inputs.tolist() == [[1.0], [-1.0]]


def test_float64_model_keeps_full_precision():
    task = Task(nn.Linear(D, 3).double(), CrossEntropy(), classes=LABELS)
    inputs, _ = collect(make_examples(task, X, Y))
    assert torch.equal(inputs, torch.tensor(X))
