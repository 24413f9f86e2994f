"""Images with channels last in memory: the same gradients, and a module that does not take them."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from influencekit import GradDot, as_task
from influencekit.gradients.layers._image_format import as_taken


class Viewing(nn.Module):
    """Flattens by ``view``, which needs images as they usually lie in memory."""

    def __init__(self, net):
        super().__init__()
        self.net, self.out = net, nn.Linear(4 * 16 * 16, 3)

    def forward(self, x):
        return self.out(self.net(x).view(len(x), -1))


def convolutions(channels, *last):
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, padding="same", bias=False),
        nn.GroupNorm(2, 4),
        nn.Tanh(),
        *last,
    )


def trained(net, *frozen):
    for name, p in net.named_parameters():
        p.requires_grad_(name not in frozen)
    return net


NETS = {
    "colors": (lambda: convolutions(3, nn.MaxPool2d(4), nn.Flatten(), nn.Linear(64, 3)), 3),
    "gray": (lambda: convolutions(1, nn.AvgPool2d(4), nn.Flatten(), nn.Linear(64, 3)), 1),
    "views": (lambda: Viewing(convolutions(2)), 2),
    "frozen scales": (
        lambda: trained(
            convolutions(2, nn.MaxPool2d(4), nn.Flatten(), nn.Linear(64, 3)), "1.weight", "4.weight"
        ),
        2,
    ),
    "depthwise, transposed": (
        lambda: nn.Sequential(
            nn.Conv2d(4, 8, 3, groups=4, stride=2),
            nn.PReLU(8),
            nn.ConvTranspose2d(8, 4, 3),
            nn.Conv2d(4, 3, 2, dilation=2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        ),
        4,
    ),
}


def one_by_one(net, x, y):
    """Gradients of each example's loss, float64."""
    own = [p for p in net.parameters() if p.requires_grad]
    losses = (F.cross_entropy(net(x[i : i + 1]), y[i : i + 1]) for i in range(len(x)))
    grads = (torch.autograd.grad(loss, own) for loss in losses)
    return torch.stack([torch.cat([g.flatten() for g in some]) for some in grads])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch_size", [None, 3])
@pytest.mark.parametrize("name", NETS)
def test_scores_are_those_of_autograd(name, batch_size, dtype):
    make, channels = NETS[name]
    torch.manual_seed(0)
    net = make().double().eval()
    x = torch.randn(20, channels, 16, 16, dtype=torch.float64)
    y = torch.randint(3, (20,))
    rows = one_by_one(net, x, y)
    expected = (rows[:10] @ rows[10:].T).numpy()
    task = as_task(net.to(dtype), loss=nn.CrossEntropyLoss())
    attributor = GradDot(output="neg_loss", batch_size=batch_size).fit(
        task, x[10:].to(dtype), y[10:]
    )
    found = attributor.score(x[:10].to(dtype), y[:10])
    room = {torch.float32: 1e-5, torch.float64: 1e-12}[dtype] * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=room)
    last = as_taken(task, x[:2].to(dtype)).stride()
    assert (last[1] == 1) == (name != "views")


@pytest.mark.parametrize(
    ("net", "size"),
    [
        (lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(588, 2)), 16),
        (lambda: convolutions(2, nn.Flatten(), nn.Linear(256, 3)), 8),
    ],
    ids=["one convolution", "small images"],
)
def test_others_stay_as_they_are(net, size):
    task = as_task(net(), loss=nn.CrossEntropyLoss())
    x = torch.randn(4, 2, size, size)
    GradDot().fit(task, x, torch.tensor([0, 1, 1, 0])).score(x, torch.tensor([0, 1, 1, 0]))
    assert as_taken(task, x) is x
