"""Groups of rows in data of every form: the sum of their rows' scores."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from influencekit import GradDot, GroupAttributor, as_task
from influencekit.data import RowSlices
from influencekit.groups import LabelGrouper, RandomGrouper

LABELS = np.arange(18) % 4


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 3)

    def forward(self, x, z=None):
        return self.layer(x if z is None else x * z)


class Halves(RowSlices):
    def __init__(self, X, y):
        self.X, self.y = X, y

    def slices(self, start=0):
        for first in range(start, 18, 9):
            yield self.X[first : first + 9], self.y[first : first + 9]


@pytest.fixture(scope="module")
def data():
    torch.manual_seed(0)
    return torch.randn(18, 5), torch.randn(18, 1), torch.randint(0, 3, (18,))


@pytest.mark.parametrize("form", ["tuple", "dict", "loader", "slices"])
@pytest.mark.parametrize("how", ["groups", "labels", "random"])
def test_groups_of_rows(data, form, how):
    x, z, y = data
    task = as_task(TwoInputs(), loss=nn.CrossEntropyLoss())
    rows, query = {
        "tuple": (((x, z), y), ((x, z), y)),
        "dict": (({"x": x, "z": z}, y), ({"x": x, "z": z}, y)),
        "loader": ((DataLoader(TensorDataset(x, y), batch_size=4), None), (x, y)),
        "slices": ((Halves(x.numpy(), y.numpy()), None), (x, y)),
    }[form]
    grouper = {"labels": LabelGrouper(LABELS), "random": RandomGrouper(4, random_state=0)}.get(how)
    given = {"groups": LABELS} if how == "groups" else {}
    grouped = GroupAttributor(GradDot(), grouper).fit(task, *rows, **given)
    if how != "random":
        np.testing.assert_array_equal(grouped.labels_, LABELS)
    each = GradDot().fit(task, *rows).score(*query)
    want = np.stack([each[:, grouped.labels_ == g].sum(1) for g in range(4)], axis=1)
    np.testing.assert_allclose(grouped.score(*query), want, rtol=1e-5, atol=1e-7)


def test_a_grouper_alone(data):
    x, z, y = data
    loader = DataLoader(TensorDataset(x, y), batch_size=4)
    for X in ((x, z), {"x": x, "z": z}, loader):
        assert LabelGrouper(LABELS).fit(None, X).labels_.shape == (18,)
        drawn = RandomGrouper(3, random_state=0).fit(None, X).labels_
        assert np.bincount(drawn).tolist() == [6, 6, 6]
