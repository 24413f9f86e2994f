"""Modules and Trainers of Lightning: decay, recorded runs, checkpoints, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from influencekit import GradDot, RunAverage, SGDInfluence, as_task
from influencekit.exceptions import InfluenceKitWarning, TrajectoryError, UnsupportedModelError
from influencekit.training import TrainerCheckpoints, TrainerRecorder

lightning = pytest.importorskip("lightning", reason="lightning is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore", "error::influencekit.exceptions.InfluenceKitWarning"),
]

DECAY, RATE, BATCH = 0.05, 0.3, 4
RNG = np.random.default_rng(0)
X = torch.from_numpy(RNG.normal(size=(18, 3)))
Y = torch.from_numpy(RNG.integers(0, 2, 18))
LOSS = nn.CrossEntropyLoss()


class Net(lightning.LightningModule):
    def __init__(self, form="dict", dropout=0.0):
        super().__init__()
        torch.manual_seed(0)
        hidden = [nn.Tanh(), nn.Dropout(dropout)]
        self.net = nn.Sequential(nn.Linear(3, 4), *hidden, nn.Linear(4, 2)).double()
        self.form = form

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, _position):
        x, y = batch
        return F.cross_entropy(self(x), y)

    def configure_optimizers(self):
        weights, biases = ([p for p in self.parameters() if p.ndim == n] for n in (2, 1))
        groups = [{"params": weights, "weight_decay": DECAY}, {"params": biases}]
        optimizer = torch.optim.SGD(groups, lr=RATE, momentum=0.5)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
        if self.form == "needs its Trainer":
            return self.trainer.no_such_number
        return {
            "dict": {"optimizer": optimizer, "lr_scheduler": schedule},
            "one": optimizer,
            "lists": ([optimizer], [schedule]),
            "dicts": ({"optimizer": optimizer},),
            "none": None,
        }[self.form]


def trained(*callbacks, workers=0, form="dict", dropout=0.0, **how):
    net = Net(form, dropout)
    torch.manual_seed(1)
    trainer = lightning.Trainer(
        callbacks=list(callbacks),
        **{
            "max_epochs": 2,
            "accelerator": "cpu",
            "precision": "64-true",
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            **how,
        },
    )
    loader = DataLoader(TensorDataset(X, Y), batch_size=BATCH, shuffle=True, num_workers=workers)
    trainer.fit(net, loader)
    return trainer


@pytest.mark.parametrize("form", ["dict", "one", "lists", "dicts"])
def test_decay_is_that_of_the_configured_optimizers(form):
    task = as_task(Net(form), LOSS)
    assert {name: float(r) for name, r in task.penalty.items()} == {
        "net.0.weight": DECAY,
        "net.3.weight": DECAY,
    }


def test_a_trainer_goes_where_its_module_goes():
    trainer = trained()
    task = as_task(trainer, LOSS)
    assert set(task.penalty) == {"net.0.weight", "net.3.weight"}
    net = trainer.lightning_module

    def gradient(i):
        loss = F.cross_entropy(net(X[[i]]), Y[[i]])
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(net.parameters()))])

    rows = torch.stack([gradient(i) for i in range(len(X))])
    want = (rows[:2] @ rows.T).numpy()
    for data in ((X, Y), (trainer.train_dataloader,)):
        got = GradDot().fit(task, *data).score(X[:2], Y[:2])
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-8 * abs(want).max())


def test_what_is_not_known_is_said():
    with pytest.raises(TypeError, match=r"loss: missing\. A bare Net"):
        as_task(trained())
    with pytest.raises(UnsupportedModelError, match="trained no module yet"):
        as_task(lightning.Trainer(accelerator="cpu", logger=False), LOSS)
    with pytest.warns(InfluenceKitWarning, match="configure_optimizers of Net failed"):
        assert as_task(Net("needs its Trainer"), LOSS).penalty == {}
    assert as_task(Net("none"), LOSS).penalty == {}


@pytest.mark.parametrize("clipping", [None, 0.4])
def test_a_recorded_run_is_the_run_and_its_scores_are_those_of_reruns(clipping):
    plain = trained(gradient_clip_val=clipping)
    recorder = TrainerRecorder(every=3)
    recorded = trained(recorder, gradient_clip_val=clipping)
    ends = (t.lightning_module.parameters() for t in (plain, recorded))
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))
    run, taken = recorder.trajectory_, 5
    assert run.n_steps == 10
    assert sorted(np.concatenate(run.batches[:5])) == list(range(18))
    attributor = SGDInfluence(trajectory=recorder, curvature="hessian", removal="fixed")
    scores = attributor.fit(as_task(recorded, LOSS), X, Y).score(X[:2], Y[:2])

    def end_of(weight):
        """Losses of two examples after the same steps with another weight of one row."""
        net = Net()
        optimizer = net.configure_optimizers()["optimizer"]
        for step, rows in enumerate(run.batches):
            if step == 5:
                for group in optimizer.param_groups:
                    group["lr"] = RATE / 2
            weights = torch.ones(len(rows), dtype=torch.float64)
            weights[torch.from_numpy(rows == taken)] = weight
            losses = F.cross_entropy(net(X[rows]), Y[rows], reduction="none")
            optimizer.zero_grad()
            (weights @ losses / len(rows)).backward()
            if clipping:
                nn.utils.clip_grad_norm_(net.parameters(), clipping)
            optimizer.step()
        return F.cross_entropy(net(X[:2]), Y[:2], reduction="none").detach().numpy()

    change = (end_of(1 + 1e-4) - end_of(1 - 1e-4)) / 2e-4  # negative: the row helps
    np.testing.assert_allclose(scores[:, taken], -change, rtol=1e-5, atol=1e-9)


def test_dropout_is_replayed():
    recorder = TrainerRecorder(every=10)
    recorded = trained(recorder, dropout=0.5)
    ends = (t.lightning_module.parameters() for t in (trained(dropout=0.5), recorded))
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))
    attributor = SGDInfluence(trajectory=recorder)
    scores = attributor.fit(as_task(recorded, LOSS), X, Y).score(X[:2], Y[:2])  # checks the replay
    assert np.isfinite(scores).all()


def test_checkpoints_for_averages():
    callback = TrainerCheckpoints(n=3)
    trainer = trained(callback)
    assert list(callback.checkpoints_) == [1, 5, 8] and callback.n_steps_ == 10
    average = RunAverage(GradDot(), checkpoints=callback, slopes="own")
    found = average.fit(as_task(trainer, LOSS), X, Y).score(X[:2], Y[:2])
    want = 0.0
    for state in callback.checkpoints_.values():
        net = Net()
        net.load_state_dict(state)
        want = want + GradDot().fit(as_task(net, LOSS), X, Y).score(X[:2], Y[:2]) / 3
    np.testing.assert_allclose(found, want, rtol=1e-9)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"precision": "bf16-mixed"}, "precision: got 'bf16-mixed'"),
        ({"accumulate_grad_batches": 2}, "accumulate_grad_batches: got 2"),
        (
            {"gradient_clip_val": 1.0, "gradient_clip_algorithm": "value"},
            "gradient_clip_algorithm",
        ),
        ({"form": "none"}, "does not have the trainable parameters"),
        ({"workers": 1}, "num_workers of the training loader: got 1"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_cannot_be_replayed_is_refused_before_training(how, said):
    with pytest.raises(TrajectoryError, match=said):
        trained(TrainerRecorder(), **how)
