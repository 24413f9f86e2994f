"""Models that drop the batch axis of a single example (``x.squeeze()``)."""

import pytest
import torch
from torch import nn

from influencekit import GradDot, InfluenceFunction, as_task
from tests.models._autograd import CRITERION, check, expected

pytestmark = pytest.mark.filterwarnings("ignore::influencekit.exceptions.NotStationaryWarning")

torch.manual_seed(0)
X = torch.randn(11, 5, dtype=torch.float64)
CLASSES, VALUES = torch.randint(0, 3, (11,)), torch.randn(11, dtype=torch.float64)


class Squeezed(nn.Linear):
    def forward(self, x):
        return super().forward(x).squeeze()


class SqueezedWhole(nn.Sequential):
    def forward(self, x):
        return super().forward(x).squeeze()


class Inside(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv1d(1, 4, 5), nn.Linear(4, 3)

    def forward(self, x):
        return self.b(torch.tanh(self.a(x[:, None])).squeeze())


class Fails(Inside):
    """A later operation needs the axis that one example alone has lost."""

    def forward(self, x):
        return self.b(torch.tanh(self.a(x[:, None])).squeeze().softmax(dim=1))


class Pair:
    """The net on two copies of a single example, for the reference."""

    def __init__(self, net):
        self.net, self.named_parameters = net, net.named_parameters

    def __call__(self, x):
        return self.net(torch.cat([x, x]))[:1]


@pytest.mark.parametrize("batch_size", [None, 1, 5])
@pytest.mark.parametrize("kind", [lambda: Squeezed(5, 3), Inside, Fails])
def test_the_axis_is_put_back(kind, batch_size):
    net = kind().double()
    scores = GradDot(batch_size=batch_size).fit(as_task(net, loss=CRITERION), X[:8], CLASSES[:8])
    reference = expected(Pair(net), X, CLASSES, 8)
    assert abs(scores.score(X[8:], CLASSES[8:]) - reference).max() < 1e-9 * abs(reference).max()
    one = scores.score(X[8:9], CLASSES[8:9])
    assert abs(one - reference[:1]).max() < 1e-9 * abs(reference).max()


@pytest.mark.parametrize("loss", [nn.MSELoss(), lambda o, t: ((o.flatten() - t) ** 2).mean()])
def test_a_regressor_with_one_output_works_with_flat_targets(loss):
    net = Squeezed(5, 1).double()
    reference = expected(net, X, VALUES, 8, lambda o, t: ((o.flatten() - t) ** 2).mean())
    fitted = GradDot().fit(as_task(net, loss=loss), X[:8], VALUES[:8])
    assert abs(fitted.score(X[8:], VALUES[8:]) - reference).max() < 1e-9 * abs(reference).max()


@pytest.mark.parametrize("curvature", ["ggn", "fisher", "hessian", "ekfac", "cg"])
def test_every_curvature_takes_the_last_batch_of_one(curvature):
    def scores(net):
        how = InfluenceFunction(curvature, 0.1, batch_size=3)
        return how.fit(as_task(net, loss=CRITERION), X[:7], CLASSES[:7]).score(X[8:9], CLASSES[8:9])

    plain = nn.Sequential(nn.Linear(5, 3)).double()
    net = SqueezedWhole(*plain)
    assert abs(scores(net) - scores(plain)).max() < 1e-6 * abs(scores(plain)).max()


def test_a_net_that_keeps_its_axis_is_run_once():
    net = nn.Linear(5, 3).double()
    task = as_task(net, loss=CRITERION)
    check(net, X, CLASSES, task=task)
    assert not task.needs_two
