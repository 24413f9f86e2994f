"""Group scores against sums of point scores, dense formulas, laws, and retraining."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.cluster import AgglomerativeClustering
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import KBinsDiscretizer
from torch import nn

from influencekit import (
    TRAK,
    GradDot,
    InfluenceFunction,
    LossBaseline,
)
from influencekit.attributors.first_order._first_order import FirstOrder
from influencekit.data import make_examples
from influencekit.exceptions import ResourceError, UnsupportedModelError
from influencekit.gradients import GradientEngine, Gradients, loss_cotangent, make_projection
from influencekit.gradients._features import GradientFeatures
from influencekit.gradients.blocks._dense import DenseBlock
from influencekit.groups import (
    DemographicParityDifference,
    EqualizedOddsDifference,
    GroupAttributor,
    KMeansGrouper,
    RandomGrouper,
    leave_group_out,
)
from tests.groups._fitted import LABELS, TASK, X_TEST, Y_TEST, N, X, Y, loop, per_example


def loss(outputs, t):
    return nn.functional.cross_entropy(outputs, t, reduction="none")


def margin(outputs, t):
    log_p = -loss(outputs, t)
    return log_p - torch.log1p(-log_p.exp())


def sums(rows):
    return np.stack([rows[g == LABELS].sum(0) for g in range(4)])


def projected(rows, dim, kind):
    """Rows of a random projection of dense gradients, by its matrix, column after column."""
    p = rows.shape[1]
    specs = [block.spec for block in gradients_of(X).sample.blocks.values()]
    unit = torch.eye(p, dtype=torch.float64)
    blocks = {
        spec.name: DenseBlock(spec, torch.cat([unit[:, c] for c in spec.columns], 1)[:, None])
        for spec in specs
    }
    features = GradientFeatures(blocks, p, 1, p)
    matrix = make_projection(TASK, dim, projection=kind, random_state=0)(features)
    return rows @ matrix.numpy()


def gradients_of(x):
    engine = GradientEngine(TASK)
    return Gradients(engine, make_examples(TASK, x, Y[: len(x)]), loss_cotangent(TASK))


def test_no_point_matrix_is_held(monkeypatch):
    seen = []
    monkeypatch.setattr("influencekit.groups._group_attributor._BLOCK", 2 * N)
    plain = FirstOrder.scores
    monkeypatch.setattr(FirstOrder, "scores", lambda s, q: seen.append(len(q)) or plain(s, q))
    grouped = GroupAttributor(GradDot()).fit(TASK, X, Y, groups=LABELS)
    found = grouped.score(X_TEST, Y_TEST)
    assert seen == [2, 2, 1]
    points = GradDot().fit(TASK, X, Y).score(X_TEST, Y_TEST)
    np.testing.assert_allclose(found, loop(points, LABELS, 4), atol=1e-12)


class TestGroupFisher:
    @pytest.mark.parametrize("form", ["sum", "mean"])
    def test_groups_of_one_are_the_influence_function(self, form):
        plain = InfluenceFunction("fisher", 1e-2)
        grouped = GroupAttributor(plain, curvature="groups", fisher_form=form).fit(TASK, X, Y)
        expected = plain.fit(TASK, X, Y).score(X_TEST, Y_TEST)
        np.testing.assert_allclose(grouped.score(X_TEST, Y_TEST), expected, rtol=1e-8)

    def test_groups_of_one_are_trak(self):
        trak = TRAK(1e-2, projection_dim=None)
        grouped = GroupAttributor(trak, curvature="groups").fit(TASK, X, Y)
        expected = trak.fit(TASK, X, Y).score(X_TEST, Y_TEST)
        np.testing.assert_allclose(grouped.score(X_TEST, Y_TEST), expected, rtol=1e-7)

    @pytest.mark.parametrize("kind", ["fisher", "trak_output", "trak_loss"])
    @pytest.mark.parametrize("form", ["sum", "mean"])
    def test_dense_formula(self, kind, form):
        """-vᵀ (Σ_j c_j G_j G_jᵀ / n + λ)⁻¹ G_j / n, with p x p matrices."""
        attributor = InfluenceFunction("fisher", 1e-2) if kind == "fisher" else TRAK(1e-2)
        grouped = GroupAttributor(
            attributor,
            curvature="groups",
            fisher_form=form,
            trak_kernel=kind.removeprefix("trak_") if kind != "fisher" else "output",
        ).fit(TASK, X, Y, groups=LABELS)

        G = sums(per_example(loss))
        K = sums(per_example(margin)) if kind == "trak_output" else G
        if kind == "fisher":
            v = -per_example(loss, X_TEST, Y_TEST)
        else:
            v = per_example(margin, X_TEST, Y_TEST)
        c = 1.0 if form == "sum" else 1 / np.bincount(LABELS)[:, None]
        A = K.T @ (c * K) / N + 1e-2 * np.eye(G.shape[1])
        expected = -v @ np.linalg.solve(A, G.T) / N
        np.testing.assert_allclose(grouped.score(X_TEST, Y_TEST), expected, rtol=1e-7, atol=1e-12)

    @pytest.mark.parametrize("projection", ["rademacher", "factored", "two_sided"])
    @pytest.mark.parametrize("kind", ["fisher", "output", "loss"])
    def test_projected_formula(self, kind, projection):
        """-vᵀ Pᵀ (Σ_j P K_j K_jᵀ Pᵀ / n + λ)⁻¹ P G_j / n, the projection by its matrix."""
        options = {"projection_dim": 16, "projection": projection, "random_state": 0}
        fisher = kind == "fisher"
        attributor = (
            InfluenceFunction("fisher", 1e-2, **options) if fisher else TRAK(1e-2, **options)
        )
        grouped = GroupAttributor(
            attributor, curvature="groups", fisher_form="sum",
            trak_kernel="output" if fisher else kind,
        ).fit(TASK, X, Y, groups=LABELS)  # fmt: skip
        G = projected(sums(per_example(loss)), 16, projection)
        K = projected(sums(per_example(margin)), 16, projection) if kind == "output" else G
        explained = (lambda o, t: -loss(o, t)) if fisher else margin
        v = projected(per_example(explained, X_TEST, Y_TEST), 16, projection)
        expected = -v @ np.linalg.solve(K.T @ K / N + 1e-2 * np.eye(16), G.T) / N
        np.testing.assert_allclose(grouped.score(X_TEST, Y_TEST), expected, rtol=1e-7, atol=1e-12)
        assert grouped.fitted_[0].right.shape == (4, 16)

    def test_projected_groups_of_one_are_projected_trak_of_several_models(self):
        models = [LogisticRegression(C=C).fit(X, Y) for C in (0.1, 1.0)]
        trak = TRAK(1e-2, projection_dim=8, random_state=0)
        alone = [trak.fit(model, X, Y).score(X_TEST, Y_TEST) for model in models[:1]]
        grouped = GroupAttributor(trak, curvature="groups")
        found = grouped.fit(models[0], X, Y).score(X_TEST, Y_TEST)
        np.testing.assert_allclose(found, alone[0], rtol=1e-7)
        both = grouped.fit(models, X, Y)
        first, second = (fitted.projection.seed for fitted in both.fitted_)
        assert first != second

    def test_a_projection_takes_the_place_of_the_parameters_in_memory(self):
        attributor = TRAK(1e-2, projection_dim=8, max_memory="10KB")
        grouped = GroupAttributor(attributor, curvature="groups").fit(TASK, X, Y)
        assert grouped.fitted_[0].rows.numel() * 8 <= 10_000
        with pytest.raises(ResourceError, match="projection_dim=48 need"):
            grouped.set_params(attributor__projection_dim=48).fit(TASK, X, Y)

    def test_self_influence_of_a_group_is_that_on_its_own_mean_loss(self):
        grouped = GroupAttributor(InfluenceFunction("fisher", 1e-2), curvature="groups")
        found = grouped.fit(TASK, X, Y, groups=LABELS).self_influence()
        own = [grouped.score(X[g == LABELS], Y[g == LABELS])[:, g].mean() for g in range(4)]
        np.testing.assert_allclose(found, own, rtol=1e-7)
        assert (found > 0).all()

    def test_auto_damping_and_form(self):
        clustered = GroupAttributor(
            InfluenceFunction("fisher"), KMeansGrouper(6, random_state=0), curvature="groups"
        ).fit(TASK, X, Y)
        random = GroupAttributor(
            InfluenceFunction("fisher"), RandomGrouper(6, random_state=0), curvature="groups"
        ).fit(TASK, X, Y)
        sizes = np.bincount(random.labels_)
        ratio = (random.fitted_[0].scale ** 2).numpy()
        np.testing.assert_allclose(ratio, N)  # "sum": rows are G / √n
        ratio = (clustered.fitted_[0].scale ** 2).numpy()
        np.testing.assert_allclose(ratio, N / np.bincount(clustered.labels_))
        assert sizes.max() - sizes.min() == 0
        assert 0 < clustered.damping_ < np.inf

    def test_memory_is_bounded(self):
        attributor = InfluenceFunction("fisher", 1e-2, max_memory="10KB")
        with pytest.raises(ResourceError, match="gradients of 30 groups"):
            GroupAttributor(attributor, curvature="groups").fit(TASK, X, Y)

    def test_refusals(self):
        with pytest.raises(ValueError, match="GradDot does not have a group form"):
            GroupAttributor(GradDot(), curvature="groups").fit(TASK, X, Y)
        with pytest.raises(ValueError, match=r"InfluenceFunction\('fisher'\)"):
            GroupAttributor(InfluenceFunction("ggn"), curvature="groups").fit(TASK, X, Y)
        with pytest.raises(ValueError, match="positive number"):
            GroupAttributor(InfluenceFunction("fisher", 0.0), curvature="groups").fit(TASK, X, Y)


class TestProperty:
    def test_gap_of_ridge_has_the_sign_and_size_of_retraining(self):
        """A property that is linear in the outputs, of a model whose influence is exact."""
        rng = np.random.default_rng(1)
        A = rng.normal(size=(400, 3))
        b = A @ [1.0, -1.0, 0.5] + rng.normal(size=400) + 2.0 * (A[:, 0] > 1)
        model = Ridge(1.0).fit(A, b)
        inside = A[:50, 1] > 0

        def gap(outputs, targets):
            return outputs[inside, 0].mean() - outputs[~inside, 0].mean()

        groups = rng.integers(0, 40, 400)
        predicted = GroupAttributor(InfluenceFunction("ggn", 0.0), property=gap)
        predicted = predicted.fit(model, A, b, groups=groups).score(A[:50], b[:50])[0]
        truth = leave_group_out(
            model, A, b, A[:50], b[:50], groups, property=gap, n_repeats=1
        ).scores[0]
        assert np.corrcoef(predicted, truth)[0, 1] > 0.98
        np.testing.assert_allclose(predicted, truth, atol=0.25 * np.abs(truth).max())

    @pytest.mark.parametrize("kind", [DemographicParityDifference, EqualizedOddsDifference])
    def test_fairness_gap_has_the_sign_of_retraining(self, kind):
        rng = np.random.default_rng(0)
        n = 600
        sex = rng.integers(0, 2, n)
        A = np.c_[rng.normal(size=(n, 3)), sex]
        b = (A[:, 0] + 0.8 * sex + rng.normal(size=n) > 0).astype(int)
        model = LogisticRegression(C=1.0).fit(A, b)
        groups = np.char.add(np.where(sex, "m", "f"), np.where(b, "+", "-"))
        gap = kind(sex[:200])
        grouped = GroupAttributor(InfluenceFunction("ggn", 0.0), property=gap)
        predicted = grouped.fit(model, A, b, groups=groups).score(A[:200], b[:200])[0]
        part = np.where(rng.random(n) < 0.1, groups, "rest")
        truth = leave_group_out(
            model, A, b, A[:200], b[:200], part,
            property=gap, left_out=["f+", "f-", "m+", "m-"], n_repeats=1,
        )  # fmt: skip
        assert list(grouped.group_names_) == list(truth.names)
        np.testing.assert_array_equal(np.sign(predicted), np.sign(truth.scores[0]))
        small = grouped.fit(model, A, b, groups=part).score(A[:200], b[:200])[0][:4]
        np.testing.assert_allclose(small, truth.scores[0], atol=0.1 * np.abs(small).max())

    @pytest.mark.parametrize("curvature", ["points", "groups"])
    def test_several_properties_are_rows_of_one_fit(self, curvature, monkeypatch):
        gap = DemographicParityDifference([0, 1, 0, 1, 1])
        given = {"loss": "mean_neg_loss", "gap": gap}
        inside = InfluenceFunction("fisher", 1e-2)

        def score(one):
            grouped = GroupAttributor(inside, curvature=curvature, property=one)
            grouped.fit(TASK, X, Y, groups=LABELS)
            return grouped, grouped.score(X_TEST, Y_TEST)

        names, calls = ("eigh", "solve"), []
        for name in names:
            plain = getattr(torch.linalg, name)
            spy = partial(lambda f, *a: calls.append(1) or f(*a), plain)
            monkeypatch.setattr(torch.linalg, name, spy)
        both, found = score(given)
        n_calls = len(calls)
        alone = [score(one) for one in given.values()]
        assert len(calls) == 3 * n_calls  # several properties take as many as one
        np.testing.assert_allclose(found, np.concatenate([rows for _, rows in alone]), rtol=1e-7)
        values = [one.property_value_ for one, _ in alone]
        np.testing.assert_allclose(both.property_value_, values)
        np.testing.assert_array_equal(score(list(given.values()))[1], found)
        frame = both.set_output(transform="pandas").transform(X_TEST, Y_TEST)
        assert list(frame.index) == ["loss", "gap"]
        assert list(both.top_k(X_TEST, Y_TEST, k=1, as_frame=True)["query"]) == ["loss", "gap"]

    def test_a_property_is_the_score_of_the_summed_gradient(self):
        """-(Σ_i ∇f_i / m)ᵀ (Σ_j G_j G_jᵀ / n + λ)⁻¹ G_j / n."""
        inside = InfluenceFunction("fisher", 1e-2)
        grouped = GroupAttributor(
            inside, curvature="groups", fisher_form="sum", property="mean_neg_loss"
        ).fit(TASK, X, Y, groups=LABELS)
        G = sums(per_example(loss))
        v = -per_example(loss, X_TEST, Y_TEST).mean(0)
        expected = -v @ np.linalg.solve(G.T @ G / N + 1e-2 * np.eye(G.shape[1]), G.T) / N
        np.testing.assert_allclose(grouped.score(X_TEST, Y_TEST)[0], expected, rtol=1e-7)

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ([], "at least one property"),
            (["mean_neg_loss", 3], "got 3 among several"),
            (["mean_neg_loss"] * 2, "Give a dict of name"),
            ({"a": "loss"}, "got 'loss'; accepted are 'mean_neg_loss'"),
        ],
    )
    def test_several_properties_are_checked_by_fit(self, given, said):
        with pytest.raises(ValueError, match=said):
            GroupAttributor(GradDot(), property=given).fit(TASK, X, Y)

    def test_refused(self):
        def fit(function):
            grouped = GroupAttributor(GradDot(), property=function).fit(TASK, X, Y)
            return grouped.score(X_TEST, Y_TEST)

        with pytest.raises(ValueError, match="one finite number"):
            fit(lambda outputs, targets: outputs)
        with pytest.raises(ValueError, match="differentiate"):
            fit(lambda outputs, targets: (outputs.argmax(1) == targets).double().mean())
        with pytest.raises(ValueError, match="3 labels for 5 evaluation rows"):
            fit(DemographicParityDifference([0, 1, 1]))
        with pytest.raises(ValueError, match="does not have evaluation rows"):
            fit(EqualizedOddsDifference(["a", "b", "a", "a", "a"]))
        for given in ("mean_neg_loss", EqualizedOddsDifference(["a", "b", "a", "a", "a"])):
            with pytest.raises(ValueError, match="y: got None; property"):
                GroupAttributor(GradDot(), property=given).fit(TASK, X, Y).score(X_TEST)
        with pytest.raises(ValueError, match="does not have a parameter 'output'"):
            GroupAttributor(LossBaseline(), property="mean_neg_loss").fit(TASK, X, Y)


class TestManners:
    def test_names_and_pandas(self):
        frame = pd.DataFrame({"sex": np.where(LABELS > 1, "f", "m"), "old": LABELS % 2 == 0})
        grouped = GroupAttributor(GradDot()).set_output(transform="pandas")
        scores = grouped.fit(TASK, X, Y, groups=frame).transform(X_TEST, Y_TEST)
        assert list(scores.columns) == list(grouped.group_names_)
        assert "sex=f, old=True" in scores.columns

    def test_single_rows_have_the_labels_of_a_frame(self):
        model = Ridge().fit(pd.DataFrame(X, index=np.arange(N) + 100), X[:, 0])
        frame = pd.DataFrame(X, index=np.arange(N) + 100)
        single = GroupAttributor(GradDot()).fit(model, frame, X[:, 0])
        assert list(single.get_feature_names_out()) == [str(i + 100) for i in range(N)]
        assert GroupAttributor(GradDot()).fit(TASK, X, Y).group_names_[2] == "train2"

    def test_any_clusterer_or_transformer(self):
        clustered = GroupAttributor(GradDot(), AgglomerativeClustering(3)).fit(TASK, X, Y)
        assert clustered.n_groups_ == 3
        bins = KBinsDiscretizer(2, encode="ordinal", strategy="uniform")
        binned = GroupAttributor(GradDot(), bins).fit(TASK, X, Y)
        assert 2 <= binned.n_groups_ <= 2**6

    def test_clone_and_parameters(self):
        from sklearn.base import clone

        grouped = clone(GroupAttributor(InfluenceFunction("ggn"), RandomGrouper(3)))
        grouped.set_params(attributor__damping=0.5, grouper__n_groups=2)
        assert grouped.attributor.damping == 0.5

    @pytest.mark.parametrize(
        ("make", "said"),
        [
            (lambda: GroupAttributor(Ridge()).fit(TASK, X, Y), "accepted is an attributor"),
            (
                lambda: GroupAttributor(GradDot(), RandomGrouper(2)).fit(TASK, X, Y, groups=LABELS),
                "got both",
            ),
            (
                lambda: GroupAttributor(GradDot()).fit(TASK, X, Y, groups=LABELS[:4]),
                "4 labels for 30",
            ),
            (lambda: GroupAttributor(GradDot(), reduce="max").fit(TASK, X, Y), "reduce"),
            (lambda: GroupAttributor(GradDot()).fit(X, Y), "takes the fitted model first"),
        ],
    )
    def test_errors(self, make, said):
        with pytest.raises((ValueError, UnsupportedModelError), match=said):
            make()
