"""Leave-one-out correlation against scipy."""

import numpy as np
import pytest
from scipy import stats

from influencekit.metrics import UndefinedCorrelationWarning, leave_one_out_correlation
from influencekit.metrics._correlation import LDSResult


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(4, 15))
    return scores + rng.normal(size=(4, 15)), scores


@pytest.mark.parametrize(
    ("method", "reference"), [("spearman", stats.spearmanr), ("pearson", stats.pearsonr)]
)
def test_matches_scipy(table, method, reference):
    changes, scores = table
    result = leave_one_out_correlation(changes, scores, correlation=method)
    expected = [reference(c, s).statistic for c, s in zip(changes, scores, strict=True)]
    assert isinstance(result, LDSResult) and result.noise_ceiling is None
    np.testing.assert_allclose(result.per_query, expected, atol=1e-13)
    assert result.mean == pytest.approx(np.mean(expected))


def test_removed_picks_columns(table):
    changes, scores = table
    removed = np.array([7, 2, 11, 0])
    picked = leave_one_out_correlation(changes[:, removed], scores, left_out=removed)
    direct = leave_one_out_correlation(changes[:, removed], scores[:, removed])
    np.testing.assert_array_equal(picked.per_query, direct.per_query)


def test_undefined_queries(table):
    changes, scores = table
    scores[2] = 1.5
    with pytest.warns(UndefinedCorrelationWarning, match="1 of 4"):
        result = leave_one_out_correlation(changes, scores)
    assert result.n_undefined == 1 and np.isnan(result.per_query[2])


def test_errors(table):
    changes, scores = table
    with pytest.raises(ValueError, match="`scores` must have shape"):
        leave_one_out_correlation(changes, scores[:, :4])
    with pytest.raises(ValueError, match="`loo_changes` has 2 removed"):
        leave_one_out_correlation(changes[:, :2], scores[:, :2])
    with pytest.raises(ValueError, match="`loo_changes` holds 1 NaN"):
        leave_one_out_correlation(np.where(changes == changes.max(), np.nan, changes), scores)
    for removed in ([0, 1, 15], [0, 1, -1], [0.5, 1, 2], np.ones(15, dtype=bool)):
        with pytest.raises(ValueError, match="`left_out` must be a 1-d array of integer"):
            leave_one_out_correlation(changes[:, :3], scores, left_out=removed)
    with pytest.raises(ValueError, match="correlation: got 'kendall'"):
        leave_one_out_correlation(changes, scores, correlation="kendall")
