"""DVEmb, LESS and In-Run Shapley equal loops over the recorded steps, written out with autograd."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch.optim import SGD

from influencekit import LESS, DVEmb, InRunShapley, SGDInfluence
from influencekit.exceptions import InfluenceKitWarning
from tests.training.trajectory.test_adjoint import data, make_run, recorded

RATES = {"sgd": 0.3, "adamw": 0.02}


class Loop:
    """Gradients at the states of a run that was recorded at every step."""

    def __init__(self, variant):
        self.run = make_run(variant)
        self.start, self.task, self.trajectory = recorded(self.run, every=1)
        self.names = list(self.start)
        self.queries, self.targets = data(1, 3)

    def at(self, step, slot="theta"):
        stored = self.trajectory.snapshots[step].tensors
        theta = stored["theta"]
        found = stored.get(slot, {})
        return torch.cat([found.get(n, 0 * theta[n]).reshape(-1) for n in self.names])

    def loss(self, theta, X, y):
        sizes = [self.start[n].numel() for n in self.names]
        parts = zip(self.names, theta.split(sizes), strict=True)
        named = {n: p.view(self.start[n].shape) for n, p in parts}
        return self.run.loss(torch.func.functional_call(self.run.module, named, (X,)), y)

    def rows(self, step, X, y):
        """Gradient of each row's loss, (n, p)."""
        found = []
        for x, t in zip(X, y, strict=True):
            theta = self.at(step).clone().requires_grad_(True)
            found.append(torch.autograd.grad(self.loss(theta, x[None], t[None]), theta)[0])
        return torch.stack(found)

    def own(self, step):
        batch = self.run.batches[step]
        return self.rows(step, self.run.X[batch], self.run.y[batch])

    def asked(self, step):
        """Gradients of the outputs, which are minus the losses."""
        return -self.rows(step, self.queries, self.targets)

    def bent(self, step, vector):
        """Hessians of the outputs times a vector."""
        found = []
        for x, t in zip(self.queries, self.targets, strict=True):
            H = torch.autograd.functional.hessian(
                lambda theta, x=x, t=t: -self.loss(theta, x[None], t[None]), self.at(step)
            )
            found.append(H @ vector)
        return torch.stack(found)

    def check(self, attributor, expected, atol=1e-12):
        fitted = attributor.fit(self.task, self.run.X, self.run.y)
        found = fitted.step_scores(self.queries, self.targets)
        expected = torch.cat(expected, dim=1).numpy()
        scale = np.abs(expected).max()
        assert scale > 0
        np.testing.assert_allclose(found.scores, expected, atol=atol * scale, rtol=0)
        rows = np.concatenate(self.run.batches)
        np.testing.assert_array_equal(found.rows, rows)
        total = np.stack([expected[:, rows == r].sum(1) for r in range(len(self.run.X))], 1)
        scores = fitted.score(self.queries, self.targets)
        np.testing.assert_allclose(scores, total, atol=atol * scale, rtol=0)


@pytest.mark.parametrize("variant", ["sgd", "adamw"])
def test_dvemb_is_the_papers_recursion_of_embeddings(variant):
    loop, lr = Loop(variant), RATES[variant]
    last = loop.asked(len(loop.run.batches))
    M = torch.zeros(last.shape[1], last.shape[1], dtype=last.dtype)
    found = []
    for step in reversed(range(len(loop.run.batches))):
        g = loop.own(step)
        e = lr * (g - g @ M.T) / len(g)  # one row an example, with its share of the mean
        M = M + e.T @ g
        found.insert(0, -last @ e.T)
    with pytest.warns(InfluenceKitWarning) if variant == "adamw" else nullcontext():
        loop.check(DVEmb(loop.trajectory), found)


@pytest.mark.parametrize("variant", ["adamw", "betas", "amsgrad", "sgd"])
def test_less_is_the_cosine_with_the_update_of_the_example_alone(variant):
    loop, found = Loop(variant), []
    options = loop.run.make_optimizer().defaults
    for step in range(len(loop.run.batches)):
        g, k = loop.own(step), step + 1
        gamma = g
        if loop.run.optimizer is not SGD:
            b1, b2 = options["betas"]
            m = b1 * loop.at(step, "exp_avg") + (1 - b1) * g
            v = b2 * loop.at(step, "exp_avg_sq") + (1 - b2) * g**2
            if options["amsgrad"]:
                v = torch.maximum(loop.at(step, "max_exp_avg_sq"), v)
            gamma = m / (1 - b1**k) / ((v / (1 - b2**k)).sqrt() + options["eps"])
        cosines = torch.cosine_similarity(loop.asked(step)[:, None], gamma[None], dim=-1)
        found.append(-options["lr"] * cosines)
    loop.check(LESS(loop.trajectory), found)


@pytest.mark.parametrize("order", [1, 2])
def test_in_run_shapley_is_the_share_in_what_a_step_does(order):
    loop, lr, found = Loop("sgd"), 0.3, []
    for step in range(len(loop.run.batches)):
        g = loop.own(step) / len(loop.run.batches[step])
        value = -lr * loop.asked(step) @ g.T
        if order == 2:
            value += 0.5 * lr**2 * loop.bent(step, g.sum(0)) @ g.T
        found.append(value)
    loop.check(InRunShapley(loop.trajectory, order), found)


def test_in_run_shapley_adds_up_to_what_the_run_did():
    run = make_run("sgd")
    run.options = {"lr": 0.03}
    start, task, trajectory = recorded(run)
    queries, targets = data(1, 3)

    def values(parameters):
        outputs = torch.func.functional_call(run.module, parameters, (queries,))
        return -run.loss(outputs, targets, reduction="none").detach().numpy()

    did = values(dict(run.module.named_parameters())) - values(start)
    wrong = []
    for order in (1, 2):
        scores = InRunShapley(trajectory, order).fit(task, run.X, run.y).score(queries, targets)
        wrong.append(np.abs(scores.sum(1) - did).max() / np.abs(did).max())
    assert wrong[1] < 1e-3 < wrong[0] and wrong[1] < wrong[0] / 20


def test_first_order_of_in_run_shapley_is_a_horizon_of_0():
    loop = Loop("sgd")
    data_ = loop.run.X, loop.run.y
    one = InRunShapley(loop.trajectory).fit(loop.task, *data_)
    other = SGDInfluence(loop.trajectory, "none", horizon=0, removal="fixed").fit(loop.task, *data_)
    pair = [a.score(loop.queries, loop.targets) for a in (one, other)]
    np.testing.assert_allclose(*pair, atol=1e-14)


@pytest.mark.parametrize("kind", [DVEmb, InRunShapley, LESS])
def test_scores_do_not_depend_on_the_batch_and_the_diagonal_is_the_scores_of_the_train_rows(kind):
    run = make_run("groups" if kind is LESS else "sgd_groups")
    _, task, trajectory = recorded(run)
    one, all_ = (
        kind(trajectory, batch_size=b, output="neg_loss").fit(task, run.X, run.y) for b in (2, None)
    )
    scores = all_.score(run.X, run.y)
    np.testing.assert_allclose(one.score(run.X, run.y), scores, atol=1e-13)
    np.testing.assert_allclose(all_.self_influence(), np.diagonal(scores), atol=1e-13)
