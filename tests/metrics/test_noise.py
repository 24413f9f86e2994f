"""The noise ceiling against a simulation in which the noise-free outputs are known."""

import numpy as np
import pytest

from influencekit.metrics import UndefinedCorrelationWarning, noise_ceiling
from influencekit.metrics._lds import PreparedOutputs


def simulate(noise, n_subsets=400, n_repeats=3, n_query=40, seed=0):
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=(n_subsets, n_query))
    errors = noise * rng.normal(size=(n_subsets, n_repeats, n_query))
    return signal, signal[:, None] + errors


@pytest.mark.parametrize("method", ["pearson", "spearman"])
@pytest.mark.parametrize("noise", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("n_repeats", [2, 3])
def test_ceiling_is_what_the_truth_itself_scores(method, noise, n_repeats):
    signal, outputs = simulate(noise, n_repeats=n_repeats)
    ceiling = noise_ceiling(outputs, correlation=method)
    prepared = PreparedOutputs(outputs, method)
    perfect = prepared.score(signal.T)
    tolerance = 0.01 if method == "pearson" else 0.02  # ranks: Spearman-Brown is approximate
    assert ceiling.attainable_correlation == pytest.approx(perfect.mean, abs=tolerance)
    assert perfect.noise_ceiling == prepared.noise_ceiling == ceiling.attainable_correlation
    _, fresh = simulate(noise, n_repeats=n_repeats, seed=0)
    fresh = signal[:, None] + (fresh - signal[:, None])[::-1]  # same signal, other errors
    again = prepared.score(fresh.mean(axis=1).T)
    assert ceiling.reliability == pytest.approx(again.mean, abs=2 * tolerance)


def test_formula_on_two_repeats():
    _, outputs = simulate(1.0, n_subsets=30, n_repeats=2, n_query=1)
    c = np.corrcoef(outputs[:, 0, 0], outputs[:, 1, 0])[0, 1]
    ceiling = noise_ceiling(outputs, correlation="pearson")
    np.testing.assert_allclose(ceiling, (c, 2 * c / (1 + c), np.sqrt(2 * c / (1 + c))))


def test_extremes():
    signal, _ = simulate(0.0, n_subsets=20, n_query=2)
    same = np.stack([signal, signal], axis=1)
    np.testing.assert_allclose(noise_ceiling(same), (1, 1, 1))
    opposed = np.stack([signal, -signal], axis=1)
    np.testing.assert_allclose(noise_ceiling(opposed), (-1, 0, 0))
    assert np.isnan(noise_ceiling(np.ones((5, 2, 2)))).all()


def test_constant_queries_do_not_spoil_the_ceiling():
    _, outputs = simulate(1.0, n_query=5)
    expected = noise_ceiling(outputs[:, :, 1:])
    outputs[:, :, 0] = 0.3
    np.testing.assert_allclose(noise_ceiling(outputs), expected)
    with pytest.warns(UndefinedCorrelationWarning):
        result = PreparedOutputs(outputs).score(outputs.mean(axis=1).T)
    assert result.n_undefined == 1


def test_needs_repeats():
    with pytest.raises(ValueError, match="`outputs` has one repeat"):
        noise_ceiling(np.random.default_rng(0).normal(size=(5, 4)))
