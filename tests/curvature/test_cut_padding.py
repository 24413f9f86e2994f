"""A net that cuts padding to the longest text of its batch: positions must not count by batch."""

import numpy as np
import pytest
import torch
from torch import nn

from influencekit import InfluenceFunction, as_task

pytestmark = pytest.mark.filterwarnings("ignore::influencekit.exceptions.NotStationaryWarning")


class CutsPadding(nn.Module):
    """The mean of tanh(W e + b) over a text's words; what follows the longest text is cut."""

    def __init__(self, cuts=True):
        super().__init__()
        self.words, self.hidden, self.out = nn.Embedding(9, 4), nn.Linear(4, 3), nn.Linear(3, 2)
        self.cuts = cuts

    def forward(self, x):
        if self.cuts:
            x = x[:, : int((x != 0).sum(1).max())]
        used = (x != 0)[..., None]
        return self.out((torch.tanh(self.hidden(self.words(x))) * used).sum(1) / used.sum(1))


def texts(left):
    torch.manual_seed(1)
    x, lengths = torch.randint(1, 9, (13, 7)), torch.arange(13) % 6 + 2
    x[torch.arange(7) >= lengths[:, None]] = 0
    return (x.flip(1) if left else x), torch.randint(2, (13,))


@pytest.mark.parametrize("curvature", ["kfac", "ekfac"])
@pytest.mark.parametrize(("cuts", "left"), [(True, False), (False, True)])
def test_scores_do_not_depend_on_the_padding_of_a_batch(curvature, cuts, left):
    torch.manual_seed(0)
    net = CutsPadding(cuts).double()
    x, y = texts(left)

    def scores(batch_size, x):
        method = InfluenceFunction(curvature, damping=0.01, batch_size=batch_size)
        return method.fit(as_task(net, loss=nn.CrossEntropyLoss()), x, y).score(x[:4], y[:4])

    more = torch.zeros(13, 3, dtype=x.dtype)
    expected = scores(13, x)
    padded = scores(5, torch.cat([more, x] if left else [x, more], 1))
    np.testing.assert_allclose(padded, expected, rtol=1e-8)
    np.testing.assert_allclose(scores(1, x), expected, rtol=1e-8)


def test_all_positions_of_an_image_count():
    """Pixels that no gradient reaches are no padding: A is the mean over all of them."""
    torch.manual_seed(0)
    layer = nn.Conv2d(1, 2, 1, bias=False).double()
    net = nn.Sequential(layer, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 2).double())
    x, y = torch.randn(9, 1, 4, 4, dtype=torch.float64), torch.randint(2, (9,))
    fitted = InfluenceFunction("kfac", damping=0.01)
    fitted.fit(as_task(net, loss=nn.CrossEntropyLoss()), x, y)
    # the layer has one input, so its eigenvalues are E[x²] times those of B = E Σ_rt b bᵀ
    outputs = layer(x).detach().requires_grad_()
    logits = net[1:](outputs)
    p = logits.softmax(1)
    total = torch.zeros(2, 2, dtype=torch.float64)
    for k in range(2):
        drawn = nn.functional.cross_entropy(logits, torch.full((9,), k), reduction="none")
        b = torch.autograd.grad(drawn, outputs, p[:, k].detach().sqrt(), retain_graph=True)[0]
        total += torch.einsum("nihw,njhw->ij", b, b) / 9
    expected = torch.linalg.eigvalsh(total) * x.square().mean()
    found = np.asarray(fitted.eigenvalues_)
    for value in expected:
        assert np.isclose(found, float(value), rtol=1e-8).any()
