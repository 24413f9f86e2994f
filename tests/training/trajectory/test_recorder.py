"""Recording: skorch nets, plain loops, folders; what cannot be replayed is refused."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback, GradientNormClipping, LRScheduler
from skorch.dataset import ValidSplit
from torch import nn
from torch.optim import ASGD, SGD, Adam, AdamW
from torch.optim.lr_scheduler import StepLR

from influencekit import AdamWInfluence, SGDInfluence, as_task, retrain_on_subsets
from influencekit.exceptions import HeldOutRowsWarning, TrajectoryError, UnsupportedModelError
from influencekit.training import Trajectory, TrajectoryRecorder, record_trajectory
from influencekit.training.trajectory._recorder import refuse_random_items
from tests.training.trajectory._unrolled import occurrence_gradients
from tests.training.trajectory.test_adjoint import data, make_run, recorded

HALVING = ("schedule", LRScheduler(StepLR, step_size=4, gamma=0.5, step_every="batch"))


class Net(nn.Module):
    def __init__(self, width=6, dropout=0.0, norm=False):
        super().__init__()
        layers = [nn.Linear(4, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 3)]
        if norm:
            layers.insert(1, nn.BatchNorm1d(width))
        self.layers = nn.Sequential(*layers)

    def forward(self, X):
        return self.layers(X)


def blobs(n=40, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    return (rng.normal(size=(n, 4)) + y[:, None]).astype(np.float32), y


def make_net(recorder=None, **options):
    callbacks = options.pop("callbacks", [])
    recorder = TrajectoryRecorder() if recorder is None else recorder
    defaults = {
        "optimizer": AdamW,
        "lr": 0.01,
        "batch_size": 7,
        "max_epochs": 3,
        "iterator_train__shuffle": True,
        "train_split": None,
    }
    return NeuralNetClassifier(
        Net,
        criterion=nn.CrossEntropyLoss,
        verbose=0,
        callbacks=[*callbacks, ("recorder", recorder)],
        **(defaults | options),
    )


def fit(net, seed=0, n=40):
    torch.manual_seed(seed)
    return net.fit(*blobs(n))


def trajectory_of(net):
    return dict(net.callbacks_)["recorder"].trajectory_


def test_training_is_as_without_the_recorder():
    recorded_net, plain = fit(make_net()), make_net()
    plain.callbacks = None
    fit(plain)
    own, other = recorded_net.module_.state_dict(), plain.module_.state_dict()
    assert all(torch.equal(own[name], other[name]) for name in own)
    assert "get_iterator" not in vars(recorded_net)


class Remember(Callback):
    """Keeps the inputs of every training batch."""

    def on_train_begin(self, net, **kwargs):
        self.seen = []

    def on_batch_begin(self, net, batch=None, training=None, **kwargs):
        if training:
            self.seen.append(batch[0].numpy())


@pytest.mark.parametrize("split", [None, ValidSplit(4, stratified=True)])
def test_batches_are_rows_of_x(split):
    net = fit(make_net(callbacks=[("remember", Remember())], train_split=split))
    X, _ = blobs()
    seen, trajectory = dict(net.callbacks_)["remember"].seen, trajectory_of(net)
    assert trajectory.n_rows == 40
    assert trajectory.n_steps == len(seen) == (18 if split is None else 15)
    for rows, batch in zip(trajectory.batches, seen, strict=True):
        np.testing.assert_array_equal(X[rows], batch)


def test_held_out_rows_score_zero():
    net = fit(make_net(train_split=ValidSplit(4)))
    X, y = blobs()
    with pytest.warns(HeldOutRowsWarning):
        scores = AdamWInfluence().fit(net, X, y).score(X[:3], y[:3])
    learned = np.unique(np.concatenate(trajectory_of(net).batches))
    assert len(learned) == 30
    assert (scores[:, learned] != 0).all()
    assert (np.delete(scores, learned, axis=1) == 0).all()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"optimizer": SGD, "optimizer__momentum": 0.9, "optimizer__nesterov": True, "lr": 0.1},
        {"optimizer": Adam, "optimizer__amsgrad": True, "optimizer__weight_decay": 0.1},
        {"callbacks": [HALVING]},
        {"callbacks": [("clip", GradientNormClipping(0.2))]},
        {"optimizer__param_groups": [("layers.0.*", {"lr": 0.03, "weight_decay": 1.0})]},
        {"module__dropout": 0.4},
        {"batch_size": -1},
        {"criterion__reduction": "sum", "lr": 0.003},
        {"criterion__weight": torch.tensor([1.0, 2.0, 0.5])},
        {"criterion__label_smoothing": 0.1},
    ],
    ids=[
        "adamw",
        "nesterov",
        "amsgrad",
        "schedule",
        "clip",
        "groups",
        "dropout",
        "full",
        "sum",
        "weights",
        "smoothing",
    ],
)
def test_skorch_runs_are_replayed(options):
    net = fit(make_net(TrajectoryRecorder(every=5), **options))
    X, y = blobs()
    kind = SGDInfluence if options.get("optimizer") is SGD else AdamWInfluence
    influence = kind().fit(net, X, y)
    for segment in influence.trajectory_.segments():
        influence.fitted_[0].replay.verify(*segment)  # checks itself against the next snapshot
    scores = influence.score(X[:2], y[:2])
    assert np.isfinite(scores).all()
    assert (scores != 0).mean() > 0.9


def test_schedule_groups_and_clipping_are_recorded():
    groups = [("layers.0.*", {"lr": 0.03})]
    clip = ("clip", GradientNormClipping(0.2))
    net = fit(make_net(callbacks=[HALVING, clip], optimizer__param_groups=groups))
    trajectory = trajectory_of(net)
    factors = 0.5 ** (np.arange(18) // 4)
    first = next(i for i, names in enumerate(trajectory.groups) if "layers.0.weight" in names)
    np.testing.assert_allclose(trajectory.options["lr"][:, first], 0.03 * factors)
    np.testing.assert_allclose(trajectory.options["lr"][:, 1 - first], 0.01 * factors)
    np.testing.assert_array_equal(trajectory.max_norm, np.full(18, 0.2))


def test_pipeline_clone_and_search():
    X, y = blobs()
    torch.manual_seed(0)
    pipe = make_pipeline(StandardScaler(), make_net())
    pipe = clone(pipe).fit(X, y)
    scores = AdamWInfluence().fit(pipe, X, y).score(X[:2], y[:2])
    alone = pipe[-1]
    direct = AdamWInfluence().fit(alone, pipe[0].transform(X), y)
    np.testing.assert_allclose(scores, direct.score(pipe[0].transform(X[:2]), y[:2]), rtol=1e-4)
    search = GridSearchCV(make_net(max_epochs=1), {"lr": [0.01, 0.02]}, cv=2).fit(X, y)
    assert AdamWInfluence().fit(search, X, y).score(X[:2], y[:2]).shape == (2, 40)


@pytest.mark.parametrize("place", ["memory", "folder"])
def test_a_recorded_net_can_be_trained_again(place, tmp_path):
    """Retrainings go through a clone of the fitted net; its recording stays what it was."""
    X, y = blobs()
    folder = tmp_path if place == "folder" else None
    net = fit(make_net(TrajectoryRecorder(folder=folder)))
    assert clone(dict(net.callbacks)["recorder"]).get_params() == {"every": None, "folder": folder}
    before = AdamWInfluence().fit(net, X, y).score(X[:2], y[:2])
    options = {"n_subsets": 3, "random_state": 0}
    stacked = retrain_on_subsets(net, X, y, X[:2], y[:2], engine="stacked", **options)
    alone = retrain_on_subsets(net, X, y, X[:2], y[:2], engine="joblib", **options)
    np.testing.assert_allclose(stacked.outputs, alone.outputs, atol=1e-4)
    np.testing.assert_array_equal(AdamWInfluence().fit(net, X, y).score(X[:2], y[:2]), before)


def test_several_nets_bring_their_own_recordings():
    X, y = blobs()
    nets = [fit(make_net(), seed) for seed in (0, 1)]
    both = AdamWInfluence().fit(nets, X, y).score(X[:2], y[:2])
    each = [AdamWInfluence().fit(net, X, y).score(X[:2], y[:2]) for net in nets]
    np.testing.assert_allclose(both, np.mean(each, axis=0))
    with pytest.raises(TrajectoryError, match="one recording for 2 models"):
        AdamWInfluence(trajectory_of(nets[0])).fit(nets, X, y)


def test_dropout_is_replayed_with_its_own_noise():
    """With other noise the replayed parameters would be elsewhere."""
    net = fit(make_net(module__dropout=0.5))
    trajectory = trajectory_of(net)
    assert len(trajectory.random_states) == trajectory.n_steps
    influence = AdamWInfluence().fit(net, *blobs())
    object.__setattr__(trajectory, "random_states", trajectory.random_states[::-1])
    with pytest.raises(TrajectoryError, match="do not lead to the recorded parameters"):
        influence.score(*(a[:1] for a in blobs()))


def test_folder_holds_the_run(tmp_path):
    X, y = blobs()
    net = fit(make_net(TrajectoryRecorder(every=4, folder=tmp_path / "run"), module__dropout=0.2))
    inner = AdamWInfluence().fit(net, X, y).score(X[:2], y[:2])
    loaded = Trajectory.load(tmp_path / "run")
    assert sorted(loaded.snapshots) == [0, 4, 8, 12, 16, 18]
    np.testing.assert_array_equal(AdamWInfluence(loaded).fit(net, X, y).score(X[:2], y[:2]), inner)
    again = AdamWInfluence(str(tmp_path / "run")).fit(net, X, y).score(X[:2], y[:2])
    np.testing.assert_array_equal(again, inner)
    loaded.save(tmp_path / "copy")
    copy = Trajectory.load(tmp_path / "copy")
    np.testing.assert_array_equal(AdamWInfluence(copy).fit(net, X, y).score(X[:2], y[:2]), inner)
    with pytest.raises(TrajectoryError, match="not contain a finished recording"):
        Trajectory.load(tmp_path)


def test_a_second_recording_replaces_the_first(tmp_path):
    fit(make_net(TrajectoryRecorder(every=2, folder=tmp_path)))
    fit(make_net(TrajectoryRecorder(every=9, folder=tmp_path), max_epochs=2))
    assert sorted(Trajectory.load(tmp_path).snapshots) == [0, 9, 12]


def test_snapshot_distance_changes_nothing():
    run = make_run("amsgrad")
    queries, targets = data(1, 2)
    found = []
    for every in (1, 3, 100):
        run = make_run("amsgrad")
        _, task, trajectory = recorded(run, every=every)
        influence = AdamWInfluence(trajectory).fit(task, run.X, run.y)
        found.append(influence.score(queries, targets))
    np.testing.assert_allclose(found[1], found[0], atol=1e-14)
    np.testing.assert_allclose(found[2], found[0], atol=1e-14)


def test_gradient_accumulation_is_one_batch():
    """Halves of a batch whose losses are halved."""
    run = make_run("adamw")
    run.batches = [b for b in run.batches if len(b) == 5]
    optimizer = run.make_optimizer()
    start = {n: p.detach().clone() for n, p in run.module.named_parameters()}
    with record_trajectory(run.module, optimizer, len(run.X)) as recorder:
        for rows in run.batches:
            optimizer.zero_grad()
            for part in (rows[:2], rows[2:]):
                recorder.rows(part)
                loss = run.loss(run.module(run.X[part]), run.y[part], reduction="sum") / 5
                loss.backward()
            optimizer.step()
    task = as_task(run.module, loss=nn.CrossEntropyLoss())
    queries, targets = data(1, 2)
    expected, _ = occurrence_gradients(run, start, queries, targets)
    influence = AdamWInfluence(recorder).fit(task, run.X, run.y)
    np.testing.assert_allclose(influence.step_scores(queries, targets).scores, expected, atol=1e-13)


class TestRefused:
    def test_batch_normalization(self):
        with pytest.raises(UnsupportedModelError, match=r"BatchNorm1d.*depend"):
            fit(make_net(module__norm=True))

    def test_missing_values_are_not_taken_for_augmentation(self):
        X, y = blobs()
        X[0] = np.nan
        refuse_random_items(torch.utils.data.TensorDataset(torch.from_numpy(X), torch.tensor(y)))
        refuse_random_items(list(zip(X, y, strict=True)))

    def test_random_augmentation(self):
        class Noisy(torch.utils.data.Dataset):
            def __len__(self):
                return 40

            def __getitem__(self, i):
                X, y = blobs()
                return torch.from_numpy(X[i]) + torch.rand(4), y[i]

        net = make_net().initialize()
        before = [p.detach().clone() for p in net.module_.parameters()]
        with pytest.raises(TrajectoryError, match=r"training Noisy change each time"):
            net.partial_fit(Noisy(), None)
        for one, other in zip(before, net.module_.parameters(), strict=True):
            assert torch.equal(one, other)

    def test_optimizer(self):
        with pytest.raises(TrajectoryError, match="ASGD; accepted are SGD, Adam, "):
            fit(make_net(optimizer=ASGD))
        with pytest.raises(TrajectoryError, match="maximize"):
            fit(make_net(optimizer__maximize=True))

    def test_wrong_data(self):
        net = fit(make_net())
        X, y = blobs()
        with pytest.raises(TrajectoryError, match=r"steps 0 to .* do not lead"):
            AdamWInfluence().fit(net, X[::-1].copy(), y[::-1].copy())
        with pytest.raises(TrajectoryError, match="not among the 20 training rows"):
            AdamWInfluence().fit(net, X[:20], y[:20])

    def test_no_recording(self):
        net = make_net()
        net.callbacks = None
        fit(net)
        with pytest.raises(TrajectoryError, match=r"callbacks=\[TrajectoryRecorder\(\)\]"):
            AdamWInfluence().fit(net, *blobs())

    def test_another_model(self):
        net, other = fit(make_net()), fit(make_net(module__width=5))
        with pytest.raises(TrajectoryError, match=r"differ in \['layers.0.bias'"):
            AdamWInfluence(trajectory_of(other)).fit(net, *blobs())
        with pytest.raises(TrajectoryError, match="where the recorded run ended"):
            AdamWInfluence(trajectory_of(fit(make_net(), seed=5))).fit(net, *blobs())

    def test_adamw_influence_of_an_sgd_run(self):
        with pytest.raises(TrajectoryError, match="Use SGDInfluence"):
            AdamWInfluence().fit(fit(make_net(optimizer=SGD)), *blobs())

    def test_a_step_without_rows(self):
        run = make_run("sgd")
        optimizer = run.make_optimizer()
        with (
            pytest.raises(TrajectoryError, match="without rows"),
            record_trajectory(run.module, optimizer, len(run.X)),
        ):
            run.train(None, optimizer)

    def test_rows_out_of_range(self):
        run = make_run("sgd")
        optimizer = run.make_optimizer()
        with (
            pytest.raises(TrajectoryError, match="from 0 to 3"),
            record_trajectory(run.module, optimizer, 4) as recorder,
        ):
            recorder.rows([2, 4])

    @pytest.mark.parametrize("option", [{"max_norm": 1.0}, {"scale_grad_by_freq": True}])
    def test_embeddings_that_step_otherwise(self, option):
        module = torch.nn.Sequential(torch.nn.Embedding(3, 2, **option))
        with (
            pytest.raises(
                UnsupportedModelError, match=rf"layer '0' is Embedding with {next(iter(option))}"
            ),
            record_trajectory(module, SGD(module.parameters(), lr=0.1), 4),
        ):
            pass

    def test_parameters_the_optimizer_does_not_hold(self):
        module = Net()
        with (
            pytest.raises(TrajectoryError, match=r"layers.0.weight"),
            record_trajectory(module, SGD(module.layers[3].parameters(), lr=0.1), 4),
        ):
            pass

    @pytest.mark.parametrize("clip", [{"gradient_clip_norm_type": 1}])
    def test_other_norms(self, clip):
        with pytest.raises(TrajectoryError, match="norm type"):
            fit(make_net(callbacks=[("clip", GradientNormClipping(0.2, **clip))]))

    @pytest.mark.parametrize(
        ("name", "value"), [("curvature", "dense"), ("removal", "drop"), ("horizon", -1)]
    )
    def test_parameters(self, name, value):
        net = fit(make_net())
        with pytest.raises(ValueError, match=name):
            AdamWInfluence(**{name: value}).fit(net, *blobs())


def test_an_earlier_recording_stays_until_the_new_one_is_complete(tmp_path):
    module, x = nn.Linear(2, 1), torch.ones(4, 2)
    optimizer = SGD(module.parameters(), lr=0.1)

    def train(steps):
        with record_trajectory(module, optimizer, 4, every=1, folder=tmp_path) as recorder:
            for step in range(steps):
                recorder.rows([step % 4])
                optimizer.zero_grad()
                module(x[[step % 4]]).square().mean().backward()
                optimizer.step()
            if steps == 3:
                raise RuntimeError("the training breaks")
        return recorder.trajectory_

    train(5)
    before = Trajectory.load(tmp_path).snapshots[2].tensors["theta"]["weight"]
    with pytest.raises(RuntimeError, match="breaks"):
        train(3)
    kept = Trajectory.load(tmp_path)
    assert kept.n_steps == 5 and len(kept.snapshots) == 6
    assert torch.equal(kept.snapshots[2].tensors["theta"]["weight"], before)
    assert train(2).n_steps == Trajectory.load(tmp_path).n_steps == 2
    assert len(list(tmp_path.rglob("step_*.npz"))) == 3
