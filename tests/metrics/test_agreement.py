"""Agreement with a noisy gold standard: definitions, ceiling, resolution, offset, seeds."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from influencekit.metrics import agreement_by_seeds, attribution_agreement

RNG = np.random.default_rng(0)


def test_values_are_those_of_the_definitions():
    gold, scores = RNG.normal(size=(2, 3, 5, 9))
    result = attribution_agreement(gold, scores, horizons=[1, 5, 20])
    cosine, ranks = np.empty((3, 5)), np.empty((3, 5))
    for h, i in np.ndindex(3, 5):
        a, b = gold[h, i], scores[h, i]
        cosine[h, i] = a @ b / np.sqrt(a @ a * (b @ b))
        ranks[h, i] = spearmanr(a, b)[0]
    np.testing.assert_allclose(result.cosine_per_query, cosine, atol=1e-14)
    np.testing.assert_allclose(result.spearman_per_query, ranks, atol=1e-14)
    np.testing.assert_allclose(result.cosine, np.mean(cosine, axis=1))
    np.testing.assert_allclose(result.cosine_se, np.std(cosine, axis=1, ddof=1) / np.sqrt(5))
    np.testing.assert_allclose(result.spearman_se, np.std(ranks, axis=1, ddof=1) / np.sqrt(5))
    assert result.horizons.tolist() == [1, 5, 20]
    assert np.isnan(result.cosine_ceiling).all() and np.isnan(result.split_half).all()


def test_one_table_of_scores_serves_every_horizon_and_any_scale():
    gold, scores = RNG.normal(size=(3, 5, 9)), RNG.normal(size=(5, 9))
    whole = attribution_agreement(gold, scores)
    repeated = attribution_agreement(gold * 1e-250, np.stack([scores] * 3) * 1e200)
    np.testing.assert_allclose(repeated.cosine, whole.cosine, rtol=1e-12)
    np.testing.assert_allclose(attribution_agreement(gold, -scores).cosine, -whole.cosine)


def test_ceiling_is_what_the_truth_itself_reaches():
    """The noise-free scores reach the ceiling, which is known without them."""
    truth = RNG.normal(size=(200, 60))
    noise = 1.5 * RNG.normal(size=(2, 200, 60))
    halves = truth + noise
    result = attribution_agreement(halves.mean(0), truth, halves=halves)
    assert abs(result.cosine_ceiling[0] - result.cosine[0]) < 0.01
    expected = 1 / np.sqrt(1 + 1.5**2 / 2)
    assert abs(result.cosine_ceiling[0] - expected) < 0.01
    assert abs(result.split_half[0] - 1 / (1 + 1.5**2)) < 0.01
    assert abs(result.spearman_ceiling[0] - result.spearman[0]) < 0.03
    pure = attribution_agreement(noise.mean(0), truth, halves=[noise[0], -noise[0]])
    assert np.isnan(pure.cosine_ceiling[0]) and abs(pure.cosine[0]) < 0.05


def test_halves_that_disagree_give_no_ceiling_and_say_so():
    """Scores can agree with the mean of two halves that do not agree with each other."""
    truth = RNG.normal(size=(40, 30))
    noise = RNG.normal(size=(40, 30))
    halves = np.stack([[truth + 2 * noise, truth + 0.1 * noise], [truth - 2 * noise, truth]])
    result = attribution_agreement(halves.mean(0), truth, halves=halves, horizons=[1, 5])
    assert result.cosine[0] > 0.99 and result.split_half[0] < 0
    assert result.halves_disagree.tolist() == [True, False]
    assert np.isnan(result.cosine_ceiling).tolist() == [True, False]
    assert "halves_disagree=[True, False]" in repr(result)
    few = np.array([[0.9, 0.1, 0.3], [-0.2, 0.4, 0.1], [0.3, 0.8, -0.4]])
    chance = attribution_agreement(few, few, halves=[few, few[[1, 2, 0]]])
    assert chance.halves_disagree[0]  # a mean of three cosines that is not above its error
    alone = attribution_agreement(few, few)
    assert not alone.halves_disagree[0] and "halves_disagree" not in repr(alone)


def test_unresolved_rows_are_counted_and_left_out():
    gold = RNG.normal(size=(4, 9))
    gold[1] = 0
    gold[2] *= 1e-9
    result = attribution_agreement(gold, np.ones((4, 9)) + gold, resolution=1e-7)
    assert result.unresolved_share[0] == 0.5
    assert np.isnan(result.cosine_per_query[0]).tolist() == [False, True, True, False]
    assert result.cosine[0] == pytest.approx(result.cosine_per_query[0, [0, 3]].mean())
    kept = attribution_agreement(gold, np.ones((4, 9)) + gold, resolution=[[1e-7, 0, 0, 0]])
    assert kept.unresolved_share[0] == 0.25
    none = attribution_agreement(gold, np.ones((4, 9)), resolution=100.0)
    assert none.unresolved_share[0] == 1 and np.isnan(none.cosine[0])
    scores = np.ones((4, 9))
    scores[0] = 0
    assert attribution_agreement(gold, scores).n_undefined[0] == 1


def test_offset_share_is_a_share_of_energy():
    gold = RNG.normal(size=(4, 9))
    gold -= gold.mean(1, keepdims=True)
    offset = np.array([1.0, -2.0, 0.5, 0.0])
    energy = 9 * np.square(offset).sum()
    expected = energy / (energy + np.square(gold).sum())
    shifted = attribution_agreement(gold + offset[:, None], gold)
    np.testing.assert_allclose(shifted.offset_share, expected)
    centered = attribution_agreement(gold, gold, offset=[offset])
    np.testing.assert_allclose(centered.offset_share, expected)
    np.testing.assert_allclose(attribution_agreement(gold, gold).offset_share, 0, atol=1e-25)


def test_seed_curve_cuts_seeds_into_disjoint_blocks():
    truth = RNG.normal(size=(2, 5, 30))
    seeds = truth + 3 * RNG.normal(size=(11, 2, 5, 30))
    scores = truth[0]
    curve = agreement_by_seeds(iter(seeds), {"truth": scores}, n_repeats=[5, 1, 3, 20])
    assert curve.n_repeats.tolist() == [1, 3, 5] and curve.n_blocks.tolist() == [11, 3, 2]
    for row, k in enumerate([1, 3, 5]):
        blocks = [seeds[s : s + k].mean(0) for s in range(0, 11 - k + 1, k)]
        expected = np.mean([attribution_agreement(b, scores).cosine for b in blocks], axis=0)
        np.testing.assert_allclose(curve.cosine["truth"][row], expected)
    np.testing.assert_array_equal(curve.best()["truth"], curve.cosine["truth"].max(1))
    assert (np.diff(curve.cosine["truth"][:, 0]) > 0).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"scores": np.ones((5, 8))}, "`scores` must have shape"),
        ({"gold": np.ones((5, 2)), "scores": np.ones((5, 2))}, "a correlation needs at least 3"),
        ({"gold": np.full((5, 9), np.nan)}, "`gold` holds 45 NaN"),
        ({"halves": np.ones((3, 5, 9))}, "`halves` must have shape"),
        ({"resolution": np.ones((2, 5))}, "`resolution` must be a number or"),
        ({"horizons": [1, 2]}, "`horizons` must have shape"),
        ({"offset": np.ones((1, 4))}, "`offset` must be a number or"),
    ],
)
def test_wrong_arguments_are_named(change, said):
    arguments = {"gold": np.ones((5, 9)), "scores": np.ones((5, 9))} | change
    with pytest.raises(ValueError, match=said):
        attribution_agreement(**arguments)


def test_wrong_seeds_are_named():
    with pytest.raises(ValueError, match="is empty"):
        agreement_by_seeds([], {"a": np.ones((5, 9))})
    with pytest.raises(ValueError, match="n_repeats: got 0; accepted is an int"):
        agreement_by_seeds([np.ones((5, 9))], {"a": np.ones((5, 9))}, n_repeats=[0])
    with pytest.raises(ValueError, match=r"`scores\['a'\]` must have shape"):
        agreement_by_seeds([np.ones((5, 9))], {"a": np.ones((5, 8))})
