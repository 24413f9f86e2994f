"""Scores averaged along a run, against plain loops, autograd and dense float64 matrices."""

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier
from torch import nn

from influencekit import (
    TRAK,
    GradDot,
    GroupAttributor,
    InfluenceFunction,
    LDSSearch,
    LossBaseline,
    RunAverage,
    SGDInfluence,
    SurrogateLambdaSearchCV,
    as_task,
)
from influencekit.exceptions import (
    InfluenceKitWarning,
    NotStationaryWarning,
    UnsupportedModelError,
)
from influencekit.models import load_checkpoints
from influencekit.models._run_task import run_task
from influencekit.training import (
    KeepCheckpoints,
    TrajectoryRecorder,
    record_checkpoints,
    record_trajectory,
)
from tests.curvature._dense_reference import gauss_newton, loss_gradients

pytestmark = pytest.mark.filterwarnings("ignore::influencekit.exceptions.NotStationaryWarning")


def iris():
    X, y = load_iris(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(X))[:48]
    X = StandardScaler().fit_transform(X[order])
    return X[:40], y[order][:40], X[40:], y[order][40:]


X, Y, XQ, YQ = iris()


def make_module(dtype=torch.float64):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3)).to(dtype)


@pytest.fixture(scope="module")
def loop():
    """A plain loop of 24 steps: module at the end, recorder, and copies made by hand."""
    module, loss = make_module(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
    A, t = torch.as_tensor(X), torch.as_tensor(Y)
    by_hand = []
    with record_checkpoints(module, optimizer, n=3, n_steps=24) as recorder:
        for step in range(24):
            if step in (4, 12, 20):  # (k + 1/2) 24 / 3
                by_hand.append(copy.deepcopy(module))
            rows = torch.randperm(len(A), generator=torch.Generator().manual_seed(step))[:10]
            optimizer.zero_grad()
            loss(module(A[rows]), t[rows]).backward()
            optimizer.step()
    return module, recorder, by_hand


def slopes_of(module):
    """Gradient of the queries' negative losses by the outputs of one model."""
    z = module(torch.as_tensor(XQ)).detach().requires_grad_()
    value = -nn.functional.cross_entropy(z, torch.as_tensor(YQ), reduction="sum")
    return torch.autograd.grad(value, z)[0]


def reference(module, checkpoints, dampings, slopes="mean"):
    """Mean over checkpoints of -<J_k' s, (G_k + λ_k)^-1 ∇loss_j> / n, everything by autograd."""
    A, t = torch.as_tensor(X), torch.as_tensor(Y)
    Q, total = torch.as_tensor(XQ), 0.0
    own = torch.stack([slopes_of(part) for part in checkpoints])
    lengths = own.norm(dim=2, keepdim=True)
    mean = (own / lengths).mean(0) * lengths.mean(0)
    for part, damping in zip(checkpoints, dampings, strict=True):
        slope = {"mean": mean, "end": slopes_of(module), "own": slopes_of(part)}[slopes]
        task = as_task(part, nn.CrossEntropyLoss())
        parameters = list(task.parameters.values())
        rows = []
        for i in range(len(Q)):
            inner = (task.module(Q[i : i + 1]) * slope[i]).sum()
            rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(inner, parameters)]))
        G = gauss_newton(task, A, t, np.full(len(A), 1 / len(A)))
        train = loss_gradients(task, A, t)
        solved = np.linalg.solve(G + damping * np.eye(len(G)), train.T)
        total = total - torch.stack(rows).numpy() @ solved / len(A)
    return total / len(checkpoints)


@pytest.mark.parametrize("slopes", ["mean", "end", "own"])
def test_mean_over_checkpoints(loop, slopes):
    module, recorder, by_hand = loop
    task = as_task(module, nn.CrossEntropyLoss())
    inner = InfluenceFunction(damping=0.05)
    average = RunAverage(inner, checkpoints=recorder, slopes=slopes).fit(task, X, Y)
    expected = reference(module, by_hand, [0.05] * 3, slopes)
    np.testing.assert_allclose(average.score(XQ, YQ), expected, rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(
        average.top_k(XQ, YQ, k=2)[1], -np.sort(-expected, axis=1)[:, :2], rtol=1e-7
    )


def test_each_checkpoint_has_its_own_damping_times_the_factor(loop):
    module, recorder, by_hand = loop
    loss = nn.CrossEntropyLoss()
    task = as_task(module, loss)
    own = [InfluenceFunction().fit(as_task(m, loss), X, Y).damping_ for m in by_hand]
    average = RunAverage(checkpoints=recorder, damping_factor=0.3).fit(task, X, Y)
    np.testing.assert_allclose(average.damping_, 0.3 * np.array(own))
    expected = reference(module, by_hand, 0.3 * np.array(own))
    np.testing.assert_allclose(average.score(XQ, YQ), expected, rtol=1e-6, atol=1e-10)
    path = average.damping_path(XQ, YQ)
    np.testing.assert_allclose(path.scores(average.damping_), expected, rtol=1e-6, atol=1e-10)
    average.set_damping(0.2)
    expected = reference(module, by_hand, [0.2] * 3)
    np.testing.assert_allclose(average.score(XQ, YQ), expected, rtol=1e-6, atol=1e-10)
    np.testing.assert_allclose(average.set_damping("auto").damping_, 0.3 * np.array(own))
    fixed = RunAverage(InfluenceFunction(damping=0.2), checkpoints=recorder, damping_factor=0.3)
    assert set(fixed.fit(task, X, Y).damping_) == {0.2}


def test_unit_length(loop):
    module, recorder, by_hand = loop
    loss = nn.CrossEntropyLoss()
    scores = [InfluenceFunction().fit(as_task(m, loss), X, Y).score(XQ, YQ) for m in by_hand]
    expected = np.mean([s / np.linalg.norm(s, axis=1, keepdims=True) for s in scores], axis=0)
    average = RunAverage(checkpoints=recorder, slopes="unit").fit(as_task(module, loss), X, Y)
    np.testing.assert_allclose(average.score(XQ, YQ), expected, rtol=1e-7, atol=1e-12)
    assert not hasattr(average, "damping_path")


@pytest.mark.parametrize(
    "attributor",
    [
        InfluenceFunction("ekfac", damping=0.1),
        InfluenceFunction("kfac"),
        InfluenceFunction("logra", projection_dim=4, random_state=0),
        TRAK(projection_dim=None, output="margin"),
        GradDot(output="margin"),
        LossBaseline(),
    ],
)
def test_other_methods_are_averaged_alike(loop, attributor):
    module, recorder, by_hand = loop
    loss = nn.CrossEntropyLoss()
    average = RunAverage(attributor, checkpoints=recorder, slopes="own")
    average.fit(as_task(module, loss), X, Y)
    members = average.fitted_[0].members  # their projections are drawn apart
    models = [as_task(m, loss) for m in by_hand]
    scores = [
        copy.deepcopy(m).fit(task, X, Y).score(XQ, YQ)
        for m, task in zip(members, models, strict=True)
    ]
    np.testing.assert_allclose(average.score(XQ, YQ), np.mean(scores, axis=0), rtol=1e-6, atol=1e-9)


def test_queries_without_targets_are_asked_about_the_prediction_of_the_end(loop):
    module, recorder, _ = loop
    average = RunAverage(checkpoints=recorder).fit(as_task(module, nn.CrossEntropyLoss()), X, Y)
    predicted = module(torch.as_tensor(XQ)).argmax(1).numpy()
    np.testing.assert_allclose(average.score(XQ), average.score(XQ, predicted))


def test_self_influence_is_the_diagonal_of_loss_scores(loop):
    module, recorder, _ = loop
    average = RunAverage(InfluenceFunction(output="margin"), checkpoints=recorder)
    average.fit(as_task(module, nn.CrossEntropyLoss()), X, Y)
    of_loss = RunAverage(InfluenceFunction(output="neg_loss"), checkpoints=recorder)
    of_loss.fit(as_task(module, nn.CrossEntropyLoss()), X, Y)
    expected = np.diagonal(of_loss.score(X, Y))
    np.testing.assert_allclose(average.self_influence(), expected, rtol=1e-9)


def test_every_source_of_checkpoints_gives_the_same_scores(loop, tmp_path):
    module, recorder, by_hand = loop
    loss = nn.CrossEntropyLoss()
    task = as_task(module, loss)
    expected = RunAverage(checkpoints=recorder).fit(task, X, Y).score(XQ, YQ)
    states = [m.state_dict() for m in by_hand]
    paths = [tmp_path / f"{i}.pt" for i in range(3)]
    for path, state in zip(paths, states, strict=True):
        torch.save(state, path)
    sources = [recorder.checkpoints_, states, paths, load_checkpoints(module, states, loss)]
    for source in sources[:3]:
        again = RunAverage(checkpoints=source).fit(task, X, Y)
        np.testing.assert_allclose(again.score(XQ, YQ), expected, rtol=1e-12)
    run = run_task(task, sources[3])
    np.testing.assert_allclose(RunAverage().fit(run, X, Y).score(XQ, YQ), expected, rtol=1e-12)
    # a list of models alone: the last of them stands for the end
    listed = RunAverage().fit([as_task(m, loss) for m in by_hand], X, Y)
    dampings = [InfluenceFunction().fit(as_task(m, loss), X, Y).damping_ for m in by_hand]
    np.testing.assert_allclose(
        listed.score(XQ, YQ), reference(by_hand[-1], by_hand, dampings), rtol=1e-6, atol=1e-10
    )


def test_several_runs_are_averaged(loop):
    _, _, by_hand = loop
    loss = nn.CrossEntropyLoss()
    models = [as_task(m, loss) for m in by_hand]
    runs = [models, [models[1], models[0]]]
    scores = [RunAverage().fit(run, X, Y).score(XQ, YQ) for run in runs]
    both = RunAverage().fit(runs, X, Y)
    np.testing.assert_allclose(both.score(XQ, YQ), np.mean(scores, axis=0), rtol=1e-10)
    assert both.n_checkpoints_ == 5 == len(both.damping_)
    path = both.damping_path(XQ, YQ)
    alone = [RunAverage().fit(run, X, Y).set_damping(0.1).score(XQ, YQ) for run in runs]
    weights = np.array([3, 2]) / 5  # a path is the mean over checkpoints
    np.testing.assert_allclose(
        path.scores(0.1), np.tensordot(weights, np.stack(alone), 1), rtol=1e-9
    )


def test_more_checkpoints_than_wanted_are_thinned_evenly(loop):
    _, _, by_hand = loop
    models = [as_task(by_hand[i % 3], nn.CrossEntropyLoss()) for i in range(9)]
    taken = RunAverage(n_checkpoints=3).fit(models, X, Y)
    expected = RunAverage().fit([models[1], models[4], models[7], models[8]], X, Y)
    assert taken.n_checkpoints_ == 3
    np.testing.assert_allclose(taken.damping_, expected.damping_[:3])


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))

    def forward(self, X):
        return self.layers(X)


def fitted_net(*callbacks):
    torch.manual_seed(1)
    return NeuralNetClassifier(
        Net,
        criterion=nn.CrossEntropyLoss,
        lr=0.2,
        batch_size=8,
        max_epochs=8,
        train_split=None,
        verbose=0,
        callbacks=list(callbacks),
    ).fit(X.astype(np.float32), Y)


def test_nets_bring_their_own_checkpoints():
    A, Q = X.astype(np.float32), XQ.astype(np.float32)
    kept = fitted_net(KeepCheckpoints(n=8))
    recorded = fitted_net(TrajectoryRecorder(every=1))
    expected = RunAverage().fit(kept, A, Y).score(Q, YQ)
    trajectory = dict(recorded.callbacks_)["TrajectoryRecorder"].trajectory_
    ways = {
        "net with a recorder of its run": RunAverage().fit(recorded, A, Y),
        "its Task": RunAverage().fit(as_task(kept), A, Y),
        "trajectory": RunAverage(checkpoints=trajectory).fit(fitted_net(), A, Y),
        "pickled": pickle.loads(pickle.dumps(RunAverage().fit(kept, A, Y))),
    }
    for name, way in ways.items():
        assert way.fitted_[0].end.n_parameters == 43
        np.testing.assert_allclose(way.score(Q, YQ), expected, rtol=1e-5, atol=1e-7, err_msg=name)
    several = RunAverage().fit([kept, recorded], A, Y)
    np.testing.assert_allclose(several.score(Q, YQ), expected, rtol=1e-5, atol=1e-7)


def test_checkpoints_that_a_net_made_are_no_runs():
    """load_checkpoints keeps the recorded net inside each Task."""
    A = X.astype(np.float32)
    net = fitted_net(KeepCheckpoints(n=4))
    states = dict(net.callbacks_)["KeepCheckpoints"].checkpoints_.values()
    average = RunAverage().fit(load_checkpoints(net, states), A, Y)
    assert len(average.fitted_) == 1
    assert average.n_checkpoints_ == 4
    with pytest.warns(InfluenceKitWarning, match="did not keep checkpoints"):
        RunAverage().fit(load_checkpoints(net, states)[0], A, Y)


def test_whole_epochs_serve_as_well():
    net = fitted_net(KeepCheckpoints())
    kept = dict(net.callbacks_)["KeepCheckpoints"].checkpoints_
    average = RunAverage(n_checkpoints=4).fit(net, X.astype(np.float32), Y)
    found = [part.task.module for part in average.fitted_[0].parts]
    for module, epoch in zip(found, (1, 3, 5, 7), strict=True):
        state = module.state_dict()
        assert all(torch.equal(kept[epoch][name], state[name]) for name in state)


def test_one_warning_about_stationarity(loop):
    """Of the last checkpoint, whatever the others are; rows of one class pull one way."""
    _, _, by_hand = loop
    one = X[Y == 0], Y[Y == 0]
    models = [as_task(m, nn.CrossEntropyLoss()) for m in by_hand]
    with pytest.warns(NotStationaryWarning) as last:
        InfluenceFunction().fit(models[-1], *one)
    with pytest.warns(NotStationaryWarning) as told:
        RunAverage().fit(models, *one)
    assert [str(w.message) for w in told] == [str(w.message) for w in last]
    assert told[0].filename == __file__


def test_models_without_checkpoints():
    A, Q = X.astype(np.float32), XQ.astype(np.float32)
    net = fitted_net()
    with pytest.warns(InfluenceKitWarning, match=r"did not keep checkpoints.*retrain=True"):
        alone = RunAverage().fit(net, A, Y)
    np.testing.assert_allclose(
        alone.score(Q, YQ), InfluenceFunction().fit(net, A, Y).score(Q, YQ), rtol=1e-5, atol=1e-8
    )
    linear = LogisticRegression().fit(X, Y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        average = RunAverage().fit(linear, X, Y)
    expected = InfluenceFunction().fit(linear, X, Y).score(XQ, YQ)
    np.testing.assert_allclose(average.score(XQ, YQ), expected, rtol=1e-9)


def test_retrain_trains_once_more_and_explains_the_given_model():
    A, Q = X.astype(np.float32), XQ.astype(np.float32)
    net = fitted_net()
    before = copy.deepcopy(net.module_.state_dict())
    average = RunAverage(retrain=True, random_state=3).fit(net, A, Y)
    seed = int(np.random.RandomState(3).randint(2**31 - 1))
    torch.manual_seed(seed)
    again = NeuralNetClassifier(
        Net, criterion=nn.CrossEntropyLoss, lr=0.2, batch_size=8, max_epochs=8, train_split=None,
        verbose=0, callbacks=[KeepCheckpoints(n=8)],
    ).fit(A, Y)  # fmt: skip
    states = dict(again.callbacks_)["KeepCheckpoints"].checkpoints_
    expected = RunAverage(checkpoints=states).fit(net, A, Y)
    np.testing.assert_allclose(average.score(Q, YQ), expected.score(Q, YQ), rtol=1e-6, atol=1e-9)
    assert all(torch.equal(v, before[k]) for k, v in net.module_.state_dict().items())


def test_retraining_a_seeded_mlp_goes_along_its_own_run():
    mlp = MLPClassifier((5,), max_iter=12, batch_size=10, random_state=4, tol=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe = make_pipeline(StandardScaler(), mlp).fit(X, Y)
        stopped = make_pipeline(
            StandardScaler(), copy.deepcopy(mlp).set_params(max_iter=7)
        ).fit(X, Y)  # fmt: skip
    average = RunAverage(n_checkpoints=4, retrain=True).fit(pipe, X, Y)
    middle = average.fitted_[0].parts[2].task.module  # after epoch 7 of 12
    expected = as_task(stopped).module
    for a, b in zip(middle.parameters(), expected.parameters(), strict=True):
        np.testing.assert_allclose(a.detach(), b.detach(), rtol=1e-10)
    lbfgs = MLPClassifier((3,), solver="lbfgs", max_iter=300, random_state=0).fit(X, Y)
    with pytest.raises(UnsupportedModelError, match="lbfgs"):
        RunAverage(retrain=True).fit(lbfgs, X, Y)


@pytest.mark.filterwarnings("ignore:The chosen damping")  # of two candidates one is at an edge
def test_groups_and_searches_go_around_it(loop):
    module, recorder, _ = loop
    task = as_task(module, nn.CrossEntropyLoss())
    average = RunAverage(checkpoints=recorder)
    scores = average.fit(task, X, Y).score(XQ, YQ)
    groups = GroupAttributor(average).fit(task, X, Y, groups=Y)
    sums = np.stack([scores[:, k == Y].sum(1) for k in range(3)], axis=1)
    np.testing.assert_allclose(groups.score(XQ, YQ), sums, rtol=1e-9)
    at_end = RunAverage(checkpoints=recorder, slopes="end")
    scores = at_end.fit(task, X, Y).score(XQ, YQ)
    of_all = GroupAttributor(at_end, property="mean_neg_loss").fit(task, X, Y, groups=Y)
    expected = [scores[:, k == Y].sum(1).mean() for k in range(3)]
    np.testing.assert_allclose(of_all.score(XQ, YQ)[0], expected, rtol=1e-7)
    search = SurrogateLambdaSearchCV(average, dampings=[1e-4, 0.1], threshold=0.8).fit(task, X, Y)
    at = average.set_damping(search.best_params_["attributor__damping"])
    np.testing.assert_allclose(search.score(XQ, YQ), at.score(XQ, YQ), rtol=1e-9)
    inside = RunAverage(SurrogateLambdaSearchCV(InfluenceFunction()), checkpoints=recorder)
    assert inside.fit(task, X, Y).n_checkpoints_ == 3


@pytest.mark.filterwarnings("ignore:The chosen damping")  # of two candidates one is at an edge
def test_searches_and_groups_take_runs(loop):
    _, _, by_hand = loop
    models = [as_task(m, nn.CrossEntropyLoss()) for m in by_hand]
    runs = [models, models[:2]]
    search = SurrogateLambdaSearchCV(RunAverage(), dampings=[1e-4, 0.1], threshold=0.8)
    search.fit(runs, X, Y)
    chosen = search.best_params_["attributor__damping"]
    expected = RunAverage().fit(runs, X, Y).set_damping(chosen).score(XQ, YQ)
    np.testing.assert_allclose(search.score(XQ, YQ), expected, rtol=1e-9)
    own = RunAverage().fit(models, X, Y).score(XQ, YQ)
    groups = GroupAttributor(RunAverage()).fit(models, X, Y)
    np.testing.assert_allclose(groups.score(XQ, YQ), own, rtol=1e-9)


def test_lds_search_over_a_net_that_kept_checkpoints():
    A, Q = X.astype(np.float32), XQ.astype(np.float32)
    net = fitted_net(KeepCheckpoints(n=4))
    space = {"damping_factor": [0.3, 1.0]}
    search = LDSSearch(RunAverage(), space, n_subsets=4, n_trials=2, random_state=0)
    search.fit(net, A, Y, X_query=Q, y_query=YQ)
    factor = search.best_params_["damping_factor"]
    expected = RunAverage(damping_factor=factor).fit(net, A, Y).score(Q, YQ)
    np.testing.assert_allclose(search.score(Q, YQ), expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    ("average", "model", "error", "match"),
    [
        (lambda: RunAverage(GroupAttributor(GradDot())), "net", ValueError, "GroupAttributor"),
        (lambda: RunAverage(LDSSearch(GradDot())), "net", ValueError, r"LDSSearch\(RunAverage"),
        (lambda: RunAverage(SGDInfluence()), "net", ValueError, "follows the run itself"),
        (lambda: RunAverage(RunAverage()), "net", ValueError, "follows the run itself"),
        (lambda: RunAverage(), "mixed", UnsupportedModelError, "is a run, item 1 a single"),
        (lambda: RunAverage(checkpoints=[]), "net", ValueError, "checkpoints: got an empty"),
        (lambda: RunAverage(checkpoints={}), "list", UnsupportedModelError, "together with a list"),
        (lambda: RunAverage(), "other", UnsupportedModelError, "the trainable parameters of item"),
        (lambda: RunAverage(damping_factor=0), "net", ValueError, "damping_factor"),
        (
            lambda: RunAverage(retrain=True),
            "linear",
            UnsupportedModelError,
            "cannot be trained again",
        ),
    ],
)
def test_refusals(loop, average, model, error, match):
    module, _, by_hand = loop
    loss = nn.CrossEntropyLoss()
    task = as_task(module, loss)
    linear = LogisticRegression().fit(X, Y)
    other = as_task(nn.Sequential(nn.Linear(4, 3)).double(), loss)
    models = {
        "net": task,
        "mixed": [[task], task],
        "list": [as_task(m, loss) for m in by_hand],
        "other": [other, task],
        "linear": linear,
    }
    with pytest.raises(error, match=match):
        average().fit(models[model], X, Y)


class Tied(nn.Module):
    """One weight by two names: the head is the embedding."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.tokens, self.head = nn.Embedding(6, 4), nn.Linear(4, 6, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, ids):
        return self.head(torch.tanh(self.tokens(ids)))


def test_checkpoints_of_tied_weights():
    module = Tied().double()
    ids, labels = torch.arange(6), torch.arange(6).roll(1)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
    with record_trajectory(module, optimizer, 6, every=1) as recorder:
        for _ in range(3):
            recorder.rows(ids)
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(ids), labels).backward()
            optimizer.step()
    task = as_task(module, nn.CrossEntropyLoss())
    average = RunAverage(GradDot(), checkpoints=recorder, slopes="own").fit(task, ids, labels)
    expected = 0.0
    for step in range(3):
        at = Tied().double()
        with torch.no_grad():
            at.tokens.weight.copy_(
                recorder.trajectory_.snapshots[step].tensors["theta"]["tokens.weight"]
            )
        rows = []
        for i in range(6):
            loss = nn.functional.cross_entropy(at(ids[i : i + 1]), labels[i : i + 1])
            rows.append(torch.autograd.grad(loss, at.tokens.weight)[0].flatten())
        rows = torch.stack(rows)
        expected = expected + (rows @ rows.T).numpy() / 3
    np.testing.assert_allclose(average.score(ids, labels), expected, rtol=1e-9)
