"""``layers=``: scores from some layers, against autograd for the parameters of these alone."""

import pytest
import torch
from torch import nn

from influencekit import TRAK, GradCos, GradDot, InfluenceFunction, TracIn, as_task
from tests.models._autograd import CRITERION, expected

pytestmark = pytest.mark.filterwarnings("ignore::influencekit.exceptions.NotStationaryWarning")

torch.manual_seed(0)
X, Y = torch.randn(20, 5, dtype=torch.float64), torch.randint(0, 3, (20,))
NET = nn.Sequential()
NET.body = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 6))
NET.head = nn.Linear(6, 3)
NET.double()
NAMES = [name for name, _ in NET.named_parameters()]


@pytest.mark.parametrize(
    ("layers", "names"),
    [
        ("last", ["head.weight", "head.bias"]),
        ("head", ["head.weight", "head.bias"]),
        ("body", NAMES[:4]),
        (["body.0", "*.bias"], ["body.0.weight", "body.0.bias", "body.2.bias", "head.bias"]),
        (None, NAMES),
    ],
)
def test_scores_are_those_of_the_chosen_parameters(layers, names):
    fitted = GradDot(layers=layers).fit(as_task(NET, loss=CRITERION), X[:15], Y[:15])
    wanted = expected(NET, X, Y, 15, names=names)
    assert abs(fitted.score(X[15:], Y[15:]) - wanted).max() < 1e-9 * abs(wanted).max()
    assert fitted.task_.n_parameters == sum(dict(NET.named_parameters())[n].numel() for n in names)


def test_scores_of_layers_sum_to_those_of_the_model():
    task = as_task(NET, loss=CRITERION)
    parts = (GradDot(layers=part).fit(task, X, Y).score(X, Y) for part in ("body", "head"))
    whole = GradDot().fit(task, X, Y).score(X, Y)
    assert abs(sum(parts) - whole).max() < 1e-9 * abs(whole).max()


@pytest.mark.parametrize(
    "make",
    [
        GradCos, TracIn, lambda **k: InfluenceFunction(damping=0.1, **k),
        lambda **k: TRAK(0.1, random_state=0, **k),
    ],
    ids=["cos", "tracin", "influence", "trak"],
)  # fmt: skip
def test_other_attributors_see_the_model_with_the_rest_frozen(make):
    frozen = as_task(NET, loss=CRITERION)
    for name, parameter in frozen.module.named_parameters():
        parameter.requires_grad_(name.startswith("head"))
    found = make(layers="head").fit(as_task(NET, loss=CRITERION), X, Y).score(X, Y)
    wanted = make().fit(frozen, X, Y).score(X, Y)
    assert abs(found - wanted).max() <= 1e-9 * abs(wanted).max()


def test_a_name_of_no_layer_is_refused():
    with pytest.raises(ValueError, match=r"layers: 'haed' is the name of no trainable layer.*head"):
        GradDot(layers="haed").fit(as_task(NET, loss=CRITERION), X, Y)
