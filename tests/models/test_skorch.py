"""skorch nets: predictions, criterion, weight decay, rows trained on, process pools."""

import copy
import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import KFold, ShuffleSplit
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier, NeuralNetRegressor
from skorch.dataset import Dataset, ValidSplit
from skorch.helper import predefined_split
from torch import nn

from influencekit.exceptions import InfluenceKitWarning, UnsupportedModelError
from influencekit.models import BinaryCrossEntropy, CrossEntropy, CustomLoss, SquaredError, as_task
from influencekit.models._links import LogProbabilities, NormalizedLogProbabilities
from influencekit.models._predict import predict, predict_proba

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4)).astype(np.float32)
Y3 = (np.arange(60) * 7 % 3).astype(np.int64)
Y2 = (Y3 == 1).astype(np.float32)
YR = RNG.normal(size=(60, 2)).astype(np.float32)
COMMON = {"verbose": 0, "max_epochs": 2, "lr": 0.1, "optimizer__weight_decay": 0.01}


def layers(*last, n_out=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, n_out), *last)


def classifier(module=None, **kwargs):
    module = layers(nn.Softmax(-1)) if module is None else module
    return NeuralNetClassifier(module, **(COMMON | kwargs))


def binary(*last, **kwargs):
    return NeuralNetBinaryClassifier(layers(*last, n_out=1), **(COMMON | kwargs))


def regressor(**kwargs):
    return NeuralNetRegressor(layers(n_out=2), **(COMMON | kwargs))


W3 = torch.tensor([1.0, 2.0, 0.5])
NETS = {
    "nll": (classifier(), Y3, CrossEntropy),
    "nll_weighted": (classifier(criterion__weight=W3), Y3, CrossEntropy),
    "cross_entropy": (classifier(layers(), criterion=nn.CrossEntropyLoss), Y3, CrossEntropy),
    "smoothed": (
        classifier(layers(), criterion=nn.CrossEntropyLoss, criterion__label_smoothing=0.1),
        Y3,
        CrossEntropy,
    ),
    "binary": (binary(), Y2, BinaryCrossEntropy),
    "binary_pos_weight": (
        binary(criterion__pos_weight=torch.tensor([3.0])),
        Y2,
        BinaryCrossEntropy,
    ),
    "binary_flat": (binary(nn.Flatten(0)), Y2, BinaryCrossEntropy),
    "binary_bce": (binary(nn.Sigmoid(), criterion=nn.BCELoss), Y2, BinaryCrossEntropy),
    "regressor": (regressor(), YR, SquaredError),
    "regressor_sum": (regressor(criterion__reduction="sum", lr=1e-3), YR, SquaredError),
    "plain_nll": (
        NeuralNet(layers(nn.LogSoftmax(-1)), criterion=nn.NLLLoss, **COMMON),
        Y3,
        CrossEntropy,
    ),
    "plain_custom": (NeuralNet(layers(n_out=2), criterion=nn.SoftMarginLoss, **COMMON), YR, None),
}


@pytest.fixture(params=NETS)
def case(request):
    net, y, kind = NETS[request.param]
    return net.fit(X, y), y, kind


def test_predictions(case):
    net, _, kind = case
    task = as_task(net)
    assert type(task.loss) is (kind or CustomLoss)
    assert task.dtype == torch.float32
    if not isinstance(net, (NeuralNetClassifier, NeuralNetBinaryClassifier)):
        if kind is not CrossEntropy:
            np.testing.assert_allclose(predict(task, X), net.predict(X), atol=1e-6)
        return
    expected = net.predict_proba(X)
    got = predict_proba(task, X)
    np.testing.assert_allclose(got, expected, atol=1e-6)
    np.testing.assert_array_equal(predict(task, X), net.predict(X))


def test_loss_and_gradient_are_the_nets(case):
    """The weighted mean of the Task's losses is what ``get_loss`` gives, and so its gradient."""
    net, y, _ = case
    task = as_task(net)
    targets = torch.from_numpy(y)
    net.module_.eval()
    theirs = net.get_loss(net.infer(torch.from_numpy(X)), targets, training=False)
    theirs = torch.autograd.grad(theirs, net.module_.parameters())
    losses = task.loss(task.forward(torch.from_numpy(X)), targets)
    weight = task.example_weights(targets)
    weight = torch.ones_like(losses) if weight is None else weight
    total = len(X) if net.criterion_.reduction == "sum" else 1
    mean = total * (weight * losses).sum() / weight.sum()
    mine = torch.autograd.grad(mean, task.parameters.values())
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6 * total)


def test_links():
    assert isinstance(as_task(classifier().fit(X, Y3)).link, LogProbabilities)
    plain = NeuralNet(layers(nn.LogSoftmax(-1)), criterion=nn.NLLLoss, **COMMON).fit(X, Y3)
    assert isinstance(as_task(plain).link, NormalizedLogProbabilities)


def test_link_has_the_epsilon_of_skorch():
    """A class of probability zero costs log(1 / eps), as in ``get_loss``, and not infinity."""
    net = classifier().fit(X, Y3)
    task = as_task(net)
    raw = torch.tensor([[1.0, 0.0, 0.0], [0.2, 0.3, 0.5]])
    targets = torch.tensor([1, 2])
    expected = net.get_loss(raw, targets)
    torch.testing.assert_close(task.loss(task.link(raw), targets).mean(), expected)


def test_logits_with_nll_are_refused_when_it_shows():
    net = classifier(nn.Sequential(layers(), nn.Softplus())).fit(X, Y3)
    with pytest.raises(UnsupportedModelError, match="sum to"):
        predict(as_task(net), X)


def test_float64_inputs_are_cast():
    net = classifier().fit(X, Y3)
    np.testing.assert_allclose(
        predict_proba(as_task(net), X.astype(np.float64)), net.predict_proba(X), atol=1e-6
    )


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, a, b):
        return torch.softmax(self.linear(a) * b, -1)


class WithSide(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x):
        return self.linear(x), x


class FirstOnly(NeuralNetClassifier):
    def get_loss(self, y_pred, y_true, *args, **kwargs):
        return super().get_loss(y_pred[0], y_true, *args, **kwargs) + y_pred[1].mean()


def test_dictionary_inputs():
    data = {"a": X, "b": np.abs(X[:, :1])}
    net = classifier(Pair()).fit(data, Y3)
    np.testing.assert_allclose(
        predict_proba(as_task(net), data), net.predict_proba(data), atol=1e-6
    )


def test_overridden_loss_may_be_given():
    net = FirstOnly(WithSide(), criterion=nn.CrossEntropyLoss, **COMMON).fit(X, Y3)
    task = as_task(net, loss=nn.CrossEntropyLoss())
    np.testing.assert_allclose(predict_proba(task, X), net.predict_proba(X), atol=1e-6)


# --- weight decay


@pytest.mark.parametrize(
    "optimizer", [torch.optim.SGD, torch.optim.Adam, torch.optim.RMSprop, torch.optim.Adagrad]
)
def test_coupled_weight_decay_is_the_penalty(optimizer):
    task = as_task(classifier(optimizer=optimizer, lr=0.01).fit(X, Y3))
    assert set(task.penalty) == set(task.parameters)
    assert task.penalty_kind == "mean"
    expected = torch.full((task.n_parameters,), 0.01, dtype=torch.float64)
    torch.testing.assert_close(task.penalty_vector(17.0), expected)


def test_one_sgd_step_follows_loss_and_penalty():
    options = {"train_split": None, "batch_size": -1, "max_epochs": 1, "warm_start": True}
    net = classifier(optimizer__weight_decay=3.0, lr=0.01, **options).fit(X, Y3)
    task = as_task(net)
    losses = task.loss(task.forward(torch.from_numpy(X)), torch.from_numpy(Y3))
    gradient = torch.autograd.grad(losses.mean(), task.parameters.values())
    flat = torch.cat([g.flatten() for g in gradient])
    before = torch.cat([p.detach().flatten() for p in task.parameters.values()])
    step = flat + task.penalty_vector(60.0).float() * before
    net.fit(X, Y3)
    after = torch.cat([p.detach().flatten() for p in net.module_.parameters()])
    torch.testing.assert_close((before - after) / 0.01, step, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "options", [{"optimizer": torch.optim.AdamW}, {"optimizer__weight_decay": 0}]
)
def test_no_penalty(options):
    assert as_task(classifier(**options).fit(X, Y3)).penalty == {}


def test_weight_decay_by_group_and_frozen():
    groups = [("2.weight", {"weight_decay": 0.5}), ("0.*", {"weight_decay": 0.25})]
    module = layers(nn.Softmax(-1))
    module[0].bias.requires_grad_(False)
    net = classifier(module, optimizer__param_groups=groups, optimizer__weight_decay=0.0)
    task = as_task(net.fit(X, Y3))
    assert {k: float(v) for k, v in task.penalty.items()} == {"0.weight": 0.25, "2.weight": 0.5}
    assert set(task.parameters) == {"0.weight", "2.weight", "2.bias"}
    for again in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert as_task(again).penalty == task.penalty


@pytest.mark.parametrize(
    ("batch_size", "expected"), [(-1, ("sum", 0.01)), (20, ("mean", 0.01 / 20))]
)
def test_weight_decay_of_a_summed_criterion(batch_size, expected):
    net = regressor(criterion__reduction="sum", lr=1e-3, batch_size=batch_size).fit(X, YR)
    task = as_task(net)
    assert (task.penalty_kind, float(task.penalty["0.weight"])) == pytest.approx(expected)


def test_weight_decay_of_a_weighted_sum_depends_on_the_batches():
    options = {"criterion": nn.CrossEntropyLoss, "criterion__reduction": "sum", "lr": 1e-3}
    options |= {"criterion__weight": W3, "train_split": None}
    with pytest.raises(UnsupportedModelError, match="sums weighted losses over a batch"):
        as_task(classifier(layers(), batch_size=20, **options).fit(X, Y3))
    assert as_task(classifier(layers(), batch_size=-1, **options).fit(X, Y3)).penalty_kind == "sum"
    undecayed = classifier(layers(), batch_size=20, optimizer__weight_decay=0.0, **options)
    assert as_task(undecayed.fit(X, Y3)).class_weight is not None


class Drift(torch.optim.SGD.__base__):
    """An optimizer that nobody knows."""

    def __init__(self, params, lr=0.1, weight_decay=0.0):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    def step(self, closure=None):
        return closure()


def test_unknown_optimizer_warns():
    net = classifier(optimizer=Drift).fit(X, Y3)
    with pytest.warns(InfluenceKitWarning, match="does not know whether"):
        assert as_task(net).penalty == {}


class Learnable(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, outputs, targets):
        return (self.scale * outputs - targets).square().mean()


def test_decay_on_a_learnable_criterion_is_refused():
    net = regressor(criterion=Learnable).fit(X, YR)
    with pytest.raises(UnsupportedModelError, match="learnable criterion"):
        as_task(net)
    task = as_task(regressor(criterion=Learnable, optimizer__weight_decay=0.0).fit(X, YR))
    task.loss(task.forward(torch.from_numpy(X)), torch.from_numpy(YR)).sum().backward()
    assert all(not p.requires_grad for p in task.loss.function.parameters())


# --- rows


def trained_rows(net, y):
    """Rows that reach the net's training batches."""
    numbered = X.copy()
    numbered[:, 0] = np.arange(len(X))
    train, _ = net.get_split_datasets(numbered, y)
    return np.sort([int(train[i][0][0]) for i in range(len(train))])


class EveryThird:
    def __call__(self, dataset, y=None):
        rows = np.arange(0, len(dataset), 3)
        return torch.utils.data.Subset(dataset, rows), None


@pytest.mark.parametrize(
    "split",
    [
        ValidSplit(5, stratified=True),
        ValidSplit(4),
        ValidSplit(0.3, random_state=3),
        ValidSplit(0.3, stratified=True, random_state=3),
        ValidSplit(KFold(3, shuffle=True, random_state=1)),
        ValidSplit(ShuffleSplit(1, random_state=1)),
        EveryThird(),
    ],
)
def test_training_rows(split):
    net = classifier(train_split=split).fit(X, Y3)
    rows = as_task(net).training_rows(X, Y3)
    assert rows.dtype == bool and rows.shape == (60,) and 0 < rows.sum() < 60
    np.testing.assert_array_equal(np.flatnonzero(rows), trained_rows(net, Y3))


def test_default_split_holds_a_fifth_out():
    assert as_task(classifier().fit(X, Y3)).training_rows(X, Y3).sum() == 48
    assert as_task(regressor().fit(X, YR)).training_rows(X, YR).sum() == 48
    assert as_task(classifier().fit(X, Y3)).training_rows(X, Y3.tolist()).sum() == 48
    torch_rows = as_task(classifier().fit(X, Y3)).training_rows(None, torch.from_numpy(Y3))
    assert torch_rows.sum() == 48


@pytest.mark.parametrize("split", [None, predefined_split(Dataset(X, Y3))])
def test_all_rows(split):
    assert as_task(classifier(train_split=split).fit(X, Y3)).training_rows is None


@pytest.mark.parametrize(
    "split",
    [
        ValidSplit(0.3),
        ValidSplit(KFold(3, shuffle=True)),
        ValidSplit(ShuffleSplit(1)),
        ValidSplit(0.3, random_state=np.random.RandomState(0)),
    ],
)
def test_unseeded_split_is_refused(split):
    net = classifier(train_split=split).fit(X, Y3)
    with pytest.raises(UnsupportedModelError, match="random_state is not an integer"):
        as_task(net)
    assert as_task(net.set_params(train_split=None)).training_rows is None


def needs_its_data(dataset, y=None):
    return torch.utils.data.Subset(dataset, np.flatnonzero(dataset.X[:, 0] > 0)), None


def test_split_that_reads_the_data_is_refused():
    task = as_task(classifier(train_split=needs_its_data).fit(X, Y3))
    with pytest.raises(UnsupportedModelError, match="could not be run on row numbers"):
        task.training_rows(X, Y3)


# --- the net itself


def test_unfitted_and_trimmed():
    with pytest.raises(NotFittedError, match="NeuralNetClassifier"):
        as_task(classifier())
    net = classifier().fit(X, Y3)
    net.trim_for_prediction()
    with pytest.raises(UnsupportedModelError, match="trim_for_prediction"):
        as_task(net)


def test_net_is_left_untouched():
    net = classifier(nn.Sequential(layers(), nn.Dropout(0.5), nn.Softmax(-1))).fit(X, Y3)
    net.module_.train()
    before = copy.deepcopy(net.module_.state_dict())
    rng = torch.get_rng_state()
    task = as_task(net)
    predict(task, X)
    with torch.no_grad():
        for parameter in task.parameters.values():
            parameter.zero_()
    assert torch.equal(torch.get_rng_state(), rng)
    assert net.module_.training and not task.module.training
    for key, value in net.module_.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)
    assert task.estimator is net


def test_pickle_and_copy_keep_the_unfitted_net():
    net = classifier().fit(X, Y3)
    task = as_task(net)
    for again in (pickle.loads(pickle.dumps(task)), copy.deepcopy(task)):
        np.testing.assert_array_equal(predict_proba(again, X), predict_proba(task, X))
        np.testing.assert_array_equal(again.training_rows(X, Y3), task.training_rows(X, Y3))
        assert isinstance(again.estimator, NeuralNetClassifier)
        assert not hasattr(again.estimator, "module_")
        again.estimator.fit(X, Y3)


def test_classes_name_nothing_in_the_targets():
    net = classifier(classes=["a", "b", "c"]).fit(X, Y3)
    task = as_task(net)
    assert task.classes is None
    np.testing.assert_array_equal(predict(task, X), net.predict(X))


@pytest.mark.slow
def test_another_process_reads_a_module_of_main(tmp_path):
    """What a process pool does: cloudpickle in a script, load where its __main__ is unknown."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys
            import numpy as np, torch
            try:
                import cloudpickle
            except ImportError:  # joblib brings its own
                from joblib.externals import cloudpickle
            from skorch import NeuralNetClassifier
            from torch import nn
            from influencekit.models import as_task

            class Mine(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.linear = nn.Linear(3, 2)

                def forward(self, x):
                    return torch.softmax(self.linear(x), -1)

            X = np.random.default_rng(0).normal(size=(20, 3)).astype("f")
            net = NeuralNetClassifier(Mine, verbose=0, max_epochs=1).fit(X, np.arange(20) % 2)
            with open(sys.argv[1], "wb") as file:
                cloudpickle.dump((as_task(net), X, net.predict_proba(X)), file)
            """
        )
    )
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, str(script), str(tmp_path / "task")], env=env, check=True)
    task, inputs, expected = pickle.loads((tmp_path / "task").read_bytes())
    np.testing.assert_allclose(predict_proba(task, inputs), expected, atol=1e-6)
    task.estimator.fit(inputs, np.arange(20) % 2)
