"""LDS against scipy, its invariances, its errors and its many-damping route."""

import numpy as np
import pytest
from scipy import stats

from influencekit.metrics import UndefinedCorrelationWarning, linear_datamodeling_score
from influencekit.metrics._lds import PreparedOutputs, lds_from_subset_sums

REFERENCE = {"spearman": stats.spearmanr, "pearson": stats.pearsonr}


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    masks = rng.random((25, 12)) < 0.5
    scores = rng.normal(size=(6, 12))
    outputs = masks @ scores.T + 2 * rng.normal(size=(25, 6))
    return outputs, masks, scores


@pytest.mark.parametrize("method", ["spearman", "pearson"])
@pytest.mark.parametrize("ties", [False, True])
def test_matches_scipy_query_by_query(problem, method, ties):
    outputs, masks, scores = problem
    if ties:
        outputs, scores = np.round(outputs), np.round(scores)
        assert len(np.unique(outputs[:, 0])) < 25
    result = linear_datamodeling_score(outputs, masks, scores, correlation=method)
    sums = scores @ masks.T
    expected = [REFERENCE[method](outputs[:, i], sums[i]).statistic for i in range(6)]
    np.testing.assert_allclose(result.per_query, expected, rtol=0, atol=1e-13)
    assert result.mean == pytest.approx(np.mean(expected), abs=1e-13)
    assert result.standard_error == pytest.approx(stats.sem(expected), abs=1e-13)
    assert (result.n_undefined, result.noise_ceiling, result.correlation) == (0, None, method)


def test_positive_score_means_proponent():
    masks = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 1], [1, 0, 0]])
    outputs = masks[:, :1] * 2.0  # output is higher where example 0 is present
    good = linear_datamodeling_score(outputs, masks, [[1.0, 0, 0]])
    assert good.mean == pytest.approx(1.0)
    assert linear_datamodeling_score(outputs, masks, [[-1.0, 0, 0]]).mean == pytest.approx(-1.0)


def test_spearman_is_invariant_to_monotone_transforms_and_pearson_to_affine(problem):
    outputs, masks, scores = problem
    spearman = linear_datamodeling_score(outputs, masks, scores).per_query
    pearson = linear_datamodeling_score(outputs, masks, scores, correlation="pearson").per_query
    bent = linear_datamodeling_score(np.exp(outputs), masks, scores).per_query
    np.testing.assert_allclose(bent, spearman, atol=1e-13)
    bent_pearson = linear_datamodeling_score(np.exp(outputs), masks, scores, correlation="pearson")
    assert np.abs(bent_pearson.per_query - pearson).max() > 1e-3
    moved = linear_datamodeling_score(3 * outputs - 7, masks, 1e-8 * scores, correlation="pearson")
    np.testing.assert_allclose(moved.per_query, pearson, atol=1e-12)


@pytest.mark.parametrize("method", ["spearman", "pearson"])
def test_sign_flip_and_order_of_subsets(problem, method):
    outputs, masks, scores = problem
    plain = linear_datamodeling_score(outputs, masks, scores, correlation=method)
    flipped = linear_datamodeling_score(outputs, masks, -scores, correlation=method)
    np.testing.assert_allclose(flipped.per_query, -plain.per_query, atol=1e-13)
    order = np.random.default_rng(1).permutation(25)
    shuffled = linear_datamodeling_score(outputs[order], masks[order], scores, correlation=method)
    np.testing.assert_allclose(shuffled.per_query, plain.per_query, atol=1e-13)
    mismatched = linear_datamodeling_score(outputs[order], masks, scores, correlation=method)
    assert np.abs(mismatched.per_query - plain.per_query).max() > 0.1


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e30, 1e200])
def test_extreme_units_do_not_matter(problem, scale):
    outputs, masks, scores = problem
    for method in ("spearman", "pearson"):
        plain = linear_datamodeling_score(outputs, masks, scores, correlation=method).per_query
        scaled = linear_datamodeling_score(outputs, masks, scores * scale, correlation=method)
        np.testing.assert_allclose(scaled.per_query, plain, atol=1e-12)


def test_repeats_are_averaged(problem):
    outputs, masks, scores = problem
    noise = np.random.default_rng(2).normal(size=outputs.shape)
    repeats = np.stack([outputs + noise, outputs - noise], axis=1)
    result = linear_datamodeling_score(repeats, masks, scores)
    plain = linear_datamodeling_score(outputs, masks, scores)
    np.testing.assert_allclose(result.per_query, plain.per_query, atol=1e-13)
    assert 0 < result.noise_ceiling < 1


@pytest.mark.parametrize("method", ["spearman", "pearson"])
def test_constant_queries_are_counted_and_left_out(problem, method):
    outputs, masks, scores = problem
    outputs, scores = outputs.copy(), scores.copy()
    outputs[:, 1] = 0.1
    scores[4] = 0
    with pytest.warns(
        UndefinedCorrelationWarning,
        match=r"2 of 6 queries: the measured outputs of 1 .*; the summed scores of 1 are",
    ):
        result = linear_datamodeling_score(outputs, masks, scores, correlation=method)
    assert np.isnan(result.per_query).tolist() == [False, True, False, False, True, False]
    assert result.n_undefined == 2
    expected = linear_datamodeling_score(
        outputs[:, [0, 2, 3, 5]], masks, scores[[0, 2, 3, 5]], correlation=method
    )
    assert result.mean == pytest.approx(expected.mean)
    assert result.standard_error == pytest.approx(expected.standard_error)


@pytest.mark.parametrize("method", ["spearman", "pearson"])
def test_rounding_noise_is_not_a_ranking(method):
    # equal scores and subsets of one size: sums differ by rounding only
    rng = np.random.default_rng(3)
    masks = np.zeros((40, 1000), dtype=bool)
    for mask in masks:
        mask[rng.permutation(1000)[:500]] = True
    scores = np.full((1, 1000), 0.1)
    assert np.ptp(scores @ masks.T.astype(float)) < 1e-10
    sums = 50 + 1e-14 * rng.normal(size=(1, 40))  # the worst case, whatever the BLAS
    outputs = rng.normal(size=(40, 1))
    with pytest.warns(UndefinedCorrelationWarning):
        assert (
            linear_datamodeling_score(outputs, masks, scores, correlation=method).n_undefined == 1
        )
    with pytest.warns(UndefinedCorrelationWarning):
        assert lds_from_subset_sums(outputs, sums, correlation=method).n_undefined == 1


def test_no_defined_query_gives_nan_not_zero(problem):
    outputs, masks, scores = problem
    with pytest.warns(UndefinedCorrelationWarning):
        result = linear_datamodeling_score(outputs, masks, 0 * scores)
    assert np.isnan(result.mean) and np.isnan(result.standard_error)
    one = linear_datamodeling_score(outputs[:, :1], masks, scores[:1])
    assert np.isfinite(one.mean) and np.isnan(one.standard_error)


@pytest.mark.parametrize("method", ["spearman", "pearson"])
def test_prepared_outputs_give_the_same_for_many_dampings(problem, method):
    outputs, masks, scores = problem
    prepared = PreparedOutputs(outputs, method)
    stacked = np.stack([scores, scores**3, np.round(scores)]) @ masks.T
    table = prepared.correlations(stacked)
    assert table.shape == (3, 6)
    for row, sums, kept in zip(table, stacked, [scores, scores**3, np.round(scores)], strict=True):
        direct = linear_datamodeling_score(outputs, masks, kept, correlation=method)
        np.testing.assert_allclose(row, direct.per_query, atol=1e-14)
        np.testing.assert_allclose(prepared.score(sums).per_query, direct.per_query, atol=1e-14)
        by_function = lds_from_subset_sums(outputs, sums, correlation=method)
        assert by_function.mean == pytest.approx(direct.mean, abs=1e-14)


def test_prepared_outputs_refuse_another_method(problem):
    outputs, masks, scores = problem
    prepared = PreparedOutputs(outputs, "pearson")
    with pytest.raises(ValueError, match="prepared for 'pearson'"):
        lds_from_subset_sums(prepared, scores @ masks.T, correlation="spearman")


def _with_nan(array):
    array = np.array(array, dtype=float)
    array.flat[3] = np.nan
    return array


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda o, m, s: (_with_nan(o), m, s), r"`outputs` holds 1 NaN"),
        (lambda o, m, s: (o, m, _with_nan(s)), r"`scores` holds 1 NaN"),
        (
            lambda o, m, s: (np.where(o == o.max(), np.inf, o), m, s),
            r"`outputs` holds 1 NaN or inf",
        ),
        (lambda o, m, s: (o[:, 0], m, s), r"`outputs` must have shape \(n_subsets, n_query\)"),
        (lambda o, m, s: (o[:2], m[:2], s), r"`outputs` has 2 subsets"),
        (lambda o, m, s: (o, m[:-1], s), r"`masks` has 24 subsets, the outputs have 25"),
        (lambda o, m, s: (o, m.astype(int) * 2, s), r"`masks` must hold booleans"),
        (lambda o, m, s: (o, _with_nan(m), s), r"`masks` must hold booleans"),
        (lambda o, m, s: (o, m[:, 0], s), r"`masks` must have shape"),
        (lambda o, m, s: (o, m, s.T), r"`scores` must have .* = \(6, 12\).* looks transposed"),
        (lambda o, m, s: (o, m, s[:, :5]), r"`scores` must have shape .*got \(6, 5\)"),
        (lambda o, m, s: (o, m, [["a"]]), r"`scores`: got text"),
    ],
)
def test_errors_name_the_argument(problem, change, message):
    with pytest.raises(ValueError, match=message):
        linear_datamodeling_score(*change(*problem))


def test_unknown_method(problem):
    with pytest.raises(ValueError, match="correlation: got 'kendall'; accepted are"):
        linear_datamodeling_score(*problem, correlation="kendall")


def test_predicted_errors(problem):
    outputs, masks, scores = problem
    with pytest.raises(ValueError, match=r"`predicted` must .* = \(6, 25\).*looks transposed"):
        lds_from_subset_sums(outputs, masks @ scores.T)
    with pytest.raises(ValueError, match="`predicted` holds 1 NaN"):
        lds_from_subset_sums(outputs, _with_nan(scores @ masks.T))
