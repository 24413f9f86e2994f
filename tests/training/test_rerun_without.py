"""Stacked reruns without sets of rows, against plain torch loops, one by one."""

import numpy as np
import pytest
import torch
from torch import nn

from influencekit import SGDInfluence
from influencekit.exceptions import TrajectoryError
from influencekit.metrics import linear_datamodeling_score
from influencekit.training import SubsetOutputs, trajectory_leave_one_out
from influencekit.training._rerun_without import rerun_without
from tests.training._rerun_reference import (
    XT,
    YT,
    Dropped,
    X,
    Y,
    batches,
    make_module,
    recorded,
)
from tests.training._training_nets import Logits

MASKS = np.random.RandomState(0).rand(4, len(X)) < 0.7
MASKS[3] = True


def loop(mask, kind, removal):
    """Losses (6,) at the end of a plain loop of SGD with momentum that skips rows."""
    module = make_module(kind)
    optimizer = torch.optim.SGD(
        module.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(batches()))
    module.train()
    for step, rows in enumerate(batches()):
        torch.manual_seed(100 + step)
        optimizer.zero_grad()
        losses = nn.functional.cross_entropy(module(XT[rows]), YT[rows], reduction="none")
        kept = losses[torch.as_tensor(mask[rows])]
        value = kept.sum() / (len(rows) if removal == "fixed" else max(1, len(kept)))
        value.backward()
        optimizer.step()
        schedule.step()
    module.eval()
    with torch.no_grad():
        return nn.functional.cross_entropy(module(XT[:6]), YT[:6], reduction="none").numpy()


@pytest.mark.parametrize("kind", [Logits, Dropped])
@pytest.mark.parametrize("removal", ["renormalize", "fixed"])
def test_equals_loops_that_skip_the_rows(kind, removal):
    task, trajectory = recorded(kind, "nesterov")
    found = rerun_without(
        task, X, Y, X[:6], Y[:6], masks=MASKS, trajectory=trajectory, removal=removal, chunk_size=3
    )
    expected = np.stack([loop(mask, kind, removal) for mask in MASKS])
    assert isinstance(found, SubsetOutputs)
    np.testing.assert_allclose(found.outputs[:, 0], -expected, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(found.masks, MASKS)


def test_single_rows_are_leave_one_out():
    task, trajectory = recorded(Logits, "adamw")
    masks = ~np.eye(len(X), dtype=bool)[:3]
    found = rerun_without(task, X, Y, X[:6], Y[:6], masks=masks, trajectory=trajectory)
    alone = trajectory_leave_one_out(
        task, X, Y, X[:6], Y[:6], left_out=[0, 1, 2], trajectory=trajectory
    )
    np.testing.assert_allclose(found.outputs[:, 0], alone.outputs, rtol=0, atol=1e-13)


def test_it_is_the_truth_of_the_derivative_along_the_run():
    task, trajectory = recorded(Logits, "sgd")
    masks = np.random.RandomState(1).rand(40, len(X)) < 0.9
    found = rerun_without(task, X, Y, X[:6], Y[:6], masks=masks, trajectory=trajectory)
    scores = SGDInfluence(trajectory).fit(task, X, Y).score(X[:6], Y[:6])
    assert linear_datamodeling_score(found.outputs, found.masks, scores).mean > 0.8


def test_finished_chunks_are_found_again(tmp_path, monkeypatch):
    task, trajectory = recorded(Logits, "sgd")
    ask = {"masks": MASKS, "trajectory": trajectory, "cache_dir": tmp_path, "chunk_size": 2}
    first = rerun_without(task, X, Y, X[:6], Y[:6], **ask)
    monkeypatch.setattr(
        "influencekit.training.leave_one_out._reruns.Reruns.keeping",
        lambda *_: pytest.fail("trained again"),
    )
    again = rerun_without(task, X, Y, X[:6], Y[:6], **ask)
    np.testing.assert_array_equal(again.outputs, first.outputs)


def test_refusals():
    task, trajectory = recorded(Logits, "sgd")
    with pytest.raises(ValueError, match="masks: got 3 columns"):
        rerun_without(task, X, Y, X, masks=np.ones((2, 3), dtype=bool), trajectory=trajectory)
    ones = np.ones((2, len(X)), dtype=int)
    with pytest.raises(ValueError, match="masks: got dtype int"):
        rerun_without(task, X, Y, X, masks=ones, trajectory=trajectory)
    with pytest.raises(TrajectoryError, match="does not have a recording"):
        rerun_without(task, X, Y, X, masks=MASKS)
