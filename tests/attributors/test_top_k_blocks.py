"""``top_k`` of inner products goes through the training examples in blocks."""

import numpy as np
import pytest
import torch
from torch import nn

import influencekit._top_k as top_k
import influencekit.attributors.first_order._first_order as first_order
from influencekit import GradDot, TracIn, as_task


def _net(seed):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    return as_task(net, loss=nn.CrossEntropyLoss())


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("opponents", [False, True])
def test_top_k_holds_few_columns_at_a_time(several, opponents, monkeypatch):
    torch.manual_seed(0)
    x, y = torch.randn(40, 4, dtype=torch.float64), torch.randint(3, (40,))
    x[20:], y[20:] = x[:20].clone(), y[:20].clone()  # ties
    fitted = TracIn().fit([_net(0), _net(1)], x, y) if several else GradDot().fit(_net(0), x, y)
    scores = fitted.score(x[:6], y[:6])
    seen, smallest_k = [], top_k.smallest_k

    def watched(rows, *args):
        seen.append(rows.shape[1])
        return smallest_k(rows, *args)

    monkeypatch.setattr(first_order, "_BLOCK", 6 * 7)
    monkeypatch.setattr(top_k, "smallest_k", watched)
    rows, values = fitted.top_k(x[:6], y[:6], k=9, opponents=opponents)
    assert max(seen) <= 9 + 7
    strength = (1 if opponents else -1) * scores.round(12)
    found = np.take_along_axis(strength, rows, axis=1)
    # rounding may turn the two of a tie, as products depend on the block that they are made in
    np.testing.assert_array_equal(found, np.sort(strength, axis=1)[:, :9])
    assert all(len(set(line)) == 9 for line in rows)
    np.testing.assert_allclose(values, np.take_along_axis(scores, rows, axis=1), rtol=1e-10)
