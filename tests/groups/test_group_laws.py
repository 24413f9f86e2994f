"""What scores of groups must satisfy, for every attributor, in float64."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch import NeuralNetClassifier
from torch import nn

from influencekit import (
    TRAK,
    FurtherTraining,
    InfluenceFunction,
    SurrogateLambdaSearchCV,
    TracIn,
    Training,
)
from influencekit.groups import EqualizedOddsDifference, GroupAttributor, KMeansGrouper
from tests._shared.nets import OneLayer
from tests.groups._fitted import (
    ATTRIBUTORS,
    BY_ADAMW,
    LABELS,
    TASK,
    X_TEST,
    Y_TEST,
    N,
    X,
    Y,
    loop,
    per_example,
    task_of,
)

FURTHER = FurtherTraining(
    training=Training(lr=0.1, n_steps=3, batch_size=8), n_repeats=2, random_state=0
)


def scores_of(name, labels=None, **options):
    grouped = GroupAttributor(ATTRIBUTORS[name], **options)
    return grouped.fit(task_of(name), X, Y, groups=labels).score(X_TEST, Y_TEST)


@pytest.mark.filterwarnings("ignore::influencekit.exceptions.NegativeCurvatureWarning")
@pytest.mark.parametrize("name", ATTRIBUTORS)
class TestEveryAttributor:
    def test_unequal_groups_equal_the_loop_and_groups_of_one_the_points(self, name):
        points = clone(ATTRIBUTORS[name]).fit(task_of(name), X, Y).score(X_TEST, Y_TEST)
        size = np.abs(points).max()
        expected = loop(points, LABELS, 4)
        np.testing.assert_allclose(scores_of(name, LABELS), expected, atol=1e-12 * size)
        np.testing.assert_allclose(
            scores_of(name, LABELS, reduce="mean"), expected / np.bincount(LABELS), atol=1e-12
        )
        np.testing.assert_allclose(scores_of(name), points, rtol=0, atol=1e-13 * size)

    def test_partitions_have_the_same_total_and_merging_adds(self, name):
        fine, merged = scores_of(name, LABELS), scores_of(name, np.where(LABELS == 3, 1, LABELS))
        atol = 1e-12 * np.abs(fine).max()
        np.testing.assert_allclose(fine.sum(1), scores_of(name, np.zeros(N))[:, 0], atol=10 * atol)
        np.testing.assert_allclose(merged[:, 1], fine[:, 1] + fine[:, 3], atol=atol)
        np.testing.assert_allclose(merged[:, [0, 2]], fine[:, [0, 2]], atol=atol)

    def test_a_property_weighs_the_scores_of_its_rows(self, name):
        if name in ("GradCos", "Loss"):
            with pytest.raises(ValueError, match="property: "):
                scores_of(name, LABELS, property="mean_neg_loss")
            return
        weights = torch.tensor([0.5, -1.0, 2.0, 0.0, 0.25], dtype=torch.float64)
        found = scores_of(name, LABELS, property=lambda outputs, _: outputs[:, 1] @ weights)
        single = clone(ATTRIBUTORS[name])
        if isinstance(single, TRAK):  # its own output is what the model is made linear in
            fitted = single.fit(TASK, X, Y).fitted_[0]
            single.fitted_ = [fitted.explaining(lambda outputs, _: outputs[:, 1])]
        else:
            single.set_params(output=lambda outputs, _: outputs[:, 1]).fit(task_of(name), X, Y)
        expected = weights.numpy() @ loop(single.score(X_TEST, Y_TEST), LABELS, 4)
        tolerance = 1e-4 if name in ("cg", "lissa") else 1e-9  # solvers stop query by query
        np.testing.assert_allclose(found[0], expected, rtol=0,
                                   atol=tolerance * np.abs(expected).max())  # fmt: skip


def mean_loss_gradient(x, y):
    loss = nn.functional.cross_entropy(TASK.module(torch.tensor(x)), torch.tensor(y))
    grads = torch.autograd.grad(loss, list(TASK.module.parameters()))
    return torch.cat([g.reshape(-1) for g in grads]).numpy()


def test_one_group_is_the_full_batch_gradient():
    """Of Grad-Dot its inner products, of influence functions what the solve makes of it."""
    full = mean_loss_gradient(X, Y)
    queries = -per_example(nn.functional.cross_entropy, X_TEST, Y_TEST)
    np.testing.assert_allclose(
        scores_of("GradDot", np.zeros(N))[:, 0], -N * queries @ full, rtol=1e-10
    )
    gradients = per_example(nn.functional.cross_entropy)
    fisher = gradients.T @ gradients / N + 0.1 * np.eye(len(full))
    np.testing.assert_allclose(
        scores_of("fisher", np.zeros(N))[:, 0], -queries @ np.linalg.solve(fisher, full), rtol=1e-9
    )


@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_further_training_leaves_out_whole_groups(reduce):
    grouped = GroupAttributor(FURTHER, reduce=reduce).fit(TASK, X, Y, groups=LABELS)
    direct = clone(FURTHER).set_params(groups=LABELS).fit(TASK, X, Y)
    first = [int(np.flatnonzero(g == LABELS)[0]) for g in range(4)]
    expected = direct.score(X_TEST, Y_TEST)[:, first]
    expected = expected / np.bincount(LABELS) if reduce == "mean" else expected
    np.testing.assert_array_equal(grouped.score(X_TEST, Y_TEST), expected)
    singles = GroupAttributor(FURTHER).fit(TASK, X, Y).score(X_TEST, Y_TEST)
    np.testing.assert_array_equal(singles, clone(FURTHER).fit(TASK, X, Y).score(X_TEST, Y_TEST))


def test_further_training_measures_a_property_that_is_linear_in_outputs():
    gap = GroupAttributor(FURTHER, property=lambda o, _: o[:2, 0].mean() - o[2:, 0].mean())
    found = gap.fit(TASK, X, Y, groups=LABELS).score(X_TEST, Y_TEST)
    logit = clone(FURTHER).set_params(output=lambda o, _: o[:, 0])
    scores = GroupAttributor(logit).fit(TASK, X, Y, groups=LABELS).score(X_TEST, Y_TEST)
    np.testing.assert_allclose(found[0], scores[:2].mean(0) - scores[2:].mean(0), atol=1e-12)


def test_a_property_against_autograd():
    """-∇P · (H + λ)⁻¹ G_j / n, with the gradient of the property through the whole model."""
    gap = EqualizedOddsDifference([0, 1, 0, 1, 0])
    targets = np.array([1, 1, 0, 2, 2])
    grouped = GroupAttributor(ATTRIBUTORS["fisher"], property=gap)
    found = grouped.fit(TASK, X, Y, groups=LABELS).score(X_TEST, targets)
    value = gap(TASK.module(torch.tensor(X_TEST)), torch.tensor(targets))
    slope = torch.autograd.grad(value, list(TASK.module.parameters()))
    slope = torch.cat([g.reshape(-1) for g in slope]).numpy()
    gradients = per_example(nn.functional.cross_entropy)
    fisher = gradients.T @ gradients / N + 0.1 * np.eye(len(slope))
    sums = np.stack([gradients[g == LABELS].sum(0) for g in range(4)])
    expected = -slope @ np.linalg.solve(fisher, sums.T) / N
    assert grouped.property_value_ == pytest.approx(value.item(), rel=1e-12)
    np.testing.assert_allclose(found[0], expected, rtol=1e-8)


class TestGroupFisherMatrix:
    @pytest.mark.parametrize("form", ["sum", "mean"])
    def test_scatter(self, form):
        """Points = between groups + inside groups (mean); sum adds the cross terms in a group."""
        grouped = GroupAttributor(
            InfluenceFunction("fisher", 0.1), curvature="groups", fisher_form=form
        ).fit(TASK, X, Y, groups=LABELS)
        rows = grouped.fitted_[0].rows.numpy()
        gradients = per_example(nn.functional.cross_entropy)
        whole, rest = gradients.T @ gradients / N, 0.0
        for g in range(4):
            own = gradients[g == LABELS]
            if form == "mean":
                rest = rest - (own - own.mean(0)).T @ (own - own.mean(0)) / N
            else:
                pairs = [np.outer(a, b) for i, a in enumerate(own) for b in np.delete(own, i, 0)]
                rest = rest + sum(pairs) / N
        np.testing.assert_allclose(rows.T @ rows, whole + rest, atol=1e-12)

    def test_push_through(self):
        """The k x k system is the p x p one, whether kernel and right side share rows or not."""
        for kernel in ("loss", "output"):
            grouped = GroupAttributor(
                TRAK(0.1), curvature="groups", trak_kernel=kernel, fisher_form="sum"
            ).fit(TASK, X, Y, groups=LABELS)
            fisher = grouped.fitted_[0]
            B, R = fisher.rows.numpy(), fisher.right.numpy()

            def margin(outputs, target):
                log_p = -nn.functional.cross_entropy(outputs, target)
                return log_p - torch.log1p(-log_p.exp())

            v = per_example(margin, X_TEST, Y_TEST)
            expected = -v @ np.linalg.solve(B.T @ B + 0.1 * np.eye(B.shape[1]), R.T)
            np.testing.assert_allclose(grouped.score(X_TEST, Y_TEST), expected, rtol=1e-8)


MODELS = [TASK, BY_ADAMW]


class TestSeveralModels:
    @pytest.mark.parametrize("name", ["GradDot", "ggn", "cg", "TRAK", "TracIn"])
    def test_sums_of_their_scores(self, name):
        one = TracIn([0.1, 0.2]) if name == "TracIn" else ATTRIBUTORS[name]
        points = clone(one).fit(MODELS, X, Y).score(X_TEST, Y_TEST)
        found = GroupAttributor(one).fit(MODELS, X, Y, groups=LABELS).score(X_TEST, Y_TEST)
        np.testing.assert_allclose(found, loop(points, LABELS, 4), atol=1e-12)

    def test_a_property_is_that_of_each_model(self):
        def fit(models):
            grouped = GroupAttributor(ATTRIBUTORS["ggn"], property="mean_neg_loss")
            grouped.fit(models, X, Y, groups=LABELS)
            return grouped.score(X_TEST, Y_TEST), grouped.property_value_

        both, value = fit(MODELS)
        apart = [fit(model) for model in MODELS]
        np.testing.assert_allclose(both, np.mean([a[0] for a in apart], axis=0), atol=1e-13)
        assert value == pytest.approx(np.mean([a[1] for a in apart]))

    def test_group_fisher_matrices_are_averaged(self):
        grouped = GroupAttributor(
            InfluenceFunction("fisher"), KMeansGrouper(5, random_state=0), curvature="groups"
        )
        both = grouped.fit(MODELS, X, Y)
        found, dampings, labels = both.score(X_TEST, Y_TEST), both.damping_, both.labels_
        grouped.set_params(grouper=None)
        apart = [grouped.fit(model, X, Y, groups=labels) for model in (TASK,)]
        assert dampings.shape == (2,) and dampings[0] == apart[0].damping_
        parts = [grouped.fit(model, X, Y, groups=labels).score(X_TEST, Y_TEST) for model in MODELS]
        np.testing.assert_allclose(found, np.mean(parts, axis=0), atol=1e-13)


class TestSearches:
    def test_lambda_is_chosen_by_the_attributors_own_output(self):
        search = SurrogateLambdaSearchCV(InfluenceFunction("ggn"), random_state=0)
        chosen = clone(search).fit(TASK, X, Y)
        grouped = GroupAttributor(search, property="mean_neg_loss").fit(TASK, X, Y, groups=LABELS)
        assert grouped.attributor_.best_params_ == chosen.best_params_
        expected = loop(chosen.score(X_TEST, Y_TEST), LABELS, 4).mean(0)
        np.testing.assert_allclose(grouped.score(X_TEST, Y_TEST)[0], expected, atol=1e-12)
        for models in (TASK, MODELS):
            plain = GroupAttributor(search).fit(models, X, Y, groups=LABELS)
            points = clone(search).fit(models, X, Y).score(X_TEST, Y_TEST)
            np.testing.assert_allclose(
                plain.score(X_TEST, Y_TEST), loop(points, LABELS, 4), atol=1e-12
            )


@pytest.mark.filterwarnings("ignore::influencekit.exceptions.HeldOutRowsWarning")
class TestHeldOutRows:
    """Rows that the model did not learn from: skorch holds every fifth out by itself."""

    X, Y = np.float32(X), Y

    @pytest.fixture
    def net(self):
        torch.manual_seed(0)
        net = NeuralNetClassifier(
            OneLayer, criterion=nn.CrossEntropyLoss, lr=0.1, max_epochs=3, batch_size=8, verbose=0
        )
        return net.fit(self.X, self.Y)

    def test_further_training(self, net):
        further = clone(FURTHER).set_params(groups=LABELS).fit(net, self.X, self.Y)
        held_out = np.setdiff1d(np.arange(N), further.train_rows_)[0]
        labels = LABELS.copy()
        first = np.flatnonzero(LABELS[held_out] == LABELS)
        labels[first[first < held_out]] = (LABELS[held_out] + 1) % 4  # a held-out row comes first
        grouped = GroupAttributor(FURTHER).fit(net, self.X, self.Y, groups=labels)
        own = clone(FURTHER).set_params(groups=labels).fit(net, self.X, self.Y)
        points = own.score(np.float32(X_TEST), Y_TEST)
        found = grouped.score(np.float32(X_TEST), Y_TEST)
        for g in range(4):
            row = next(i for i in own.train_rows_ if labels[i] == g)
            np.testing.assert_array_equal(found[:, g], points[:, row])

    @pytest.mark.parametrize("form", ["sum", "mean"])
    def test_group_fisher_matrix(self, net, form):
        plain = InfluenceFunction("fisher", 0.1)
        expected = clone(plain).fit(net, self.X, self.Y).score(np.float32(X_TEST), Y_TEST)
        grouped = GroupAttributor(plain, curvature="groups", fisher_form=form)
        found = grouped.fit(net, self.X, self.Y).score(np.float32(X_TEST), Y_TEST)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
