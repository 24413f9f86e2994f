"""Subsets that values draw: their design, errors, when they stop, and what is refused."""

from functools import partial

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge

from influencekit import SubsetOutputs
from influencekit.training.subsets import _engines
from influencekit.values import (
    Banzhaf,
    BetaShapley,
    Datamodel,
    LeaveOneOut,
    Shapley,
    _from_trainings,
)

N = 12
RNG = np.random.RandomState(0)
X, Y = RNG.randn(N, 2), RNG.randn(N)
EFFECTS = RNG.randn(N)
MODEL = Ridge().fit(X, Y)


def value_of(masks, rng):
    """A game with an interaction, and the noise of seeds."""
    return masks @ EFFECTS + 2.0 * masks[:, 0] * masks[:, 1] + 0.3 * rng.randn(len(masks))


@pytest.fixture
def trained(monkeypatch):
    """Trainings are replaced by the game; masks that were trained on are kept."""
    asked = []

    def retrain(model, X, y, X_query, y_query, *, masks, random_state, **_):
        asked.append(masks)
        found = value_of(masks, np.random.RandomState(random_state)) + Y.mean()
        shape = (len(masks), 1, len(X_query))
        outputs = np.broadcast_to(found[:, None, None], shape)
        return SubsetOutputs(masks, outputs, np.zeros(shape[:2]), "prediction")

    monkeypatch.setattr(_from_trainings, "retrain_on_subsets", retrain)
    return asked


def fitted(values):
    return values.set_params(output="prediction").fit(MODEL, X, Y, X_query=X[:1], y_query=Y[:1])


SAMPLED = {
    "Banzhaf": Banzhaf(n_trainings=400),
    "complementary": Shapley(n_trainings=400),
    "permutation": Shapley("permutation", n_trainings=400, truncation=0.0),
    "Beta(1, 1)": BetaShapley(1, 1, n_trainings=400, truncation=0.0),
    "ridge": Datamodel(n_trainings=400),
}


@pytest.mark.parametrize("name", SAMPLED)
def test_errors_are_those_of_repetition(trained, name):
    """Over seeds, scores scatter around the truth by their standard errors."""
    found, errors = [], []
    for seed in range(10):
        values = fitted(SAMPLED[name].set_params(random_state=seed))
        found.append(values.score(X[:1], Y[:1])[0])
        errors.append(values.std_error_[0])
    truth = EFFECTS + np.where(np.arange(N) < 2, 1.0, 0.0)  # half of the interaction each
    scatter = np.sqrt(np.square(np.array(found) - truth).mean())
    assert scatter == pytest.approx(np.sqrt(np.square(errors).mean()), rel=0.35)
    assert scatter < 0.5
    assert sum(map(len, trained)) <= 10 * 401


def test_beta_weighs_small_subsets(trained):
    """The interaction counts where both rows are there: late in an order."""
    small = fitted(BetaShapley(16, 1, n_trainings=600, truncation=0.0, random_state=0))
    late = fitted(BetaShapley(1, 16, n_trainings=600, truncation=0.0, random_state=0))
    extra = [v.score(X[:1], Y[:1])[0, :2].mean() - EFFECTS[:2].mean() for v in (small, late)]
    assert extra[0] == pytest.approx(2 * 1 / 17, abs=0.2)
    assert extra[1] == pytest.approx(2 * 16 / 17, abs=0.2)
    assert (
        small.subset_outputs_.masks[1:].sum(1).max() < late.subset_outputs_.masks[1:].sum(1).max()
    )


def test_designs_are_balanced(trained):
    for fraction, n_rows in ((0.5, 6), (0.3, 4)):
        masks = fitted(Datamodel(n_trainings=25, subset_fraction=fraction)).subset_outputs_.masks
        assert (masks.sum(1) == n_rows).all()
        assert np.ptp(masks.sum(0)) <= 1
    halves = fitted(Datamodel(n_trainings=20)).subset_outputs_.masks
    for masks in (halves, fitted(Banzhaf(n_trainings=21)).subset_outputs_.masks):
        assert len(masks) == 20
        np.testing.assert_array_equal(masks[1::2], ~masks[::2])
    masks = fitted(Shapley(n_trainings=2001, random_state=0)).subset_outputs_.masks
    assert masks[0].all()
    np.testing.assert_array_equal(masks[2::2], ~masks[1::2])
    sizes = np.bincount(masks[1:].sum(1), minlength=N)[1:]
    assert len(sizes) == N - 1
    assert np.ptp(sizes) <= 10  # of 182 each


def test_a_wanted_error_stops(trained):
    for values in (Banzhaf(), Shapley(), Shapley("permutation"), Datamodel(), BetaShapley()):
        values.set_params(n_trainings=2000, tol=0.3, random_state=0)
        found = fitted(values)
        assert found.std_error_.mean() <= 0.3
        assert len(found.subset_outputs_.masks) < 1000
        few = fitted(values.set_params(tol=1e-9, n_trainings=60))
        assert len(few.subset_outputs_.masks) <= 64  # of orders also what is free


def test_truncation_saves_trainings(trained):
    cut = fitted(Shapley("permutation", truncation=0.5, random_state=0))
    whole = fitted(Shapley("permutation", truncation=0.0, random_state=0))

    def longest(values):
        return np.diff(np.flatnonzero(values.subset_outputs_.masks.sum(1) == 1)).mean()

    assert longest(cut) < longest(whole) == N


def halves(n=N, share=0.5):
    masks = np.zeros((40, n), dtype=bool)
    for mask in masks:
        mask[RNG.permutation(n)[: round(share * n)]] = True
    return SubsetOutputs(masks, RNG.randn(40, 1, 1), np.zeros((40, 1)))


@pytest.mark.parametrize(
    ("values", "outputs", "message"),
    [
        (Shapley(), halves(), "the first subset does not hold all rows"),
        (Shapley("permutation"), halves(), "the first subset does not hold all rows"),
        (BetaShapley(), halves(), "Random halves are for Datamodel and Banzhaf"),
        (LeaveOneOut(), halves(), "0 of 12 subsets that leave one row out"),
        (Banzhaf(), halves(share=0.75), "hold 75% of the rows"),
        (Banzhaf(), halves(n=11), "got 11 training rows and 1 queries"),
    ],
)
def test_subsets_of_other_kinds_are_refused(values, outputs, message):
    with pytest.raises(ValueError, match=message):
        values.fit(MODEL, X, Y, X_query=X[:1], y_query=Y[:1], subset_outputs=outputs)


@pytest.mark.parametrize("values", [Shapley(), Shapley("permutation"), BetaShapley()])
def test_halves_beside_all_rows_are_refused(values):
    kept = halves()
    kept.masks[0] = True
    with pytest.raises(ValueError, match="subset_outputs: got subsets that are not"):
        values.fit(MODEL, X, Y, X_query=X[:1], y_query=Y[:1], subset_outputs=kept)


def test_a_row_in_no_subset_is_refused():
    kept = halves()
    kept.masks[:, 4] = False
    with pytest.raises(ValueError, match="row 4 is in none or in all"):
        Banzhaf().fit(MODEL, X, Y, X_query=X[:1], y_query=Y[:1], subset_outputs=kept)


@pytest.mark.parametrize(
    ("model", "least"),
    [(LogisticRegression(), 0.0), (RandomForestClassifier(4, random_state=0), 1 / 8)],
)
def test_without_a_class_the_shares_of_classes_answer(model, least):
    labels = np.array([0] * 8 + [1] * 4)
    values = Shapley("permutation", n_trainings=4, random_state=0)
    values.fit(model.fit(X, labels), X, labels, X_query=X[[0, 9]], y_query=labels[[0, 9]])
    kept = values.subset_outputs_
    lacking = ~(kept.masks[:, :8].any(1) & kept.masks[:, 8:].any(1))
    assert lacking.any()
    constant = np.log(np.maximum([8 / 12, 4 / 12], least))
    np.testing.assert_allclose(
        kept.outputs[lacking, 0], np.tile(constant, (lacking.sum(), 1)), rtol=1e-5
    )
    full = kept.outputs[0, 0]
    np.testing.assert_allclose(values.score(X[[0, 9]]).sum(1), full - constant, atol=1e-5)


def test_trainings_are_found_again(tmp_path, monkeypatch):
    """All of them by the same call, and the first ones by one that asks for more."""
    trained, run_jobs = [], _engines.run_jobs

    def counted(job, runs, n_jobs):
        trained.append(len(runs))
        return run_jobs(job, runs, n_jobs)

    monkeypatch.setattr(_engines, "run_jobs", counted)
    for values in (Banzhaf(), Shapley()):
        values.set_params(random_state=0, cache_dir=tmp_path / repr(values)[:12])
        found = []
        for n in (8, 8, 12):
            trained.clear()
            values.set_params(n_trainings=n)
            values.fit(MODEL, X, Y, X_query=X[:1], y_query=Y[:1])
            found.append((values.score(X[:1], Y[:1]), sum(trained)))
        np.testing.assert_array_equal(found[0][0], found[1][0])
        assert [count for _, count in found][1:] == [0, 4]


@pytest.mark.parametrize(
    "values", [Banzhaf(), Shapley(), LeaveOneOut(), Datamodel()], ids=lambda v: type(v).__name__
)
def test_an_interrupted_fit_goes_on_where_it_was(values, tmp_path, monkeypatch):
    """What was trained before the interruption is not trained again, and changes nothing."""
    run_jobs, trained = _engines.run_jobs, []

    def counted(job, runs, n_jobs, stop=None):
        for i, found in enumerate(run_jobs(job, runs, n_jobs)):
            if i == stop:
                raise KeyboardInterrupt
            trained.append(i)
            yield found

    values.set_params(random_state=0)
    if "n_trainings" in values.get_params():
        values.set_params(n_trainings=20)
    data = {"X_query": X[:1], "y_query": Y[:1]}
    whole = values.set_params(cache_dir=tmp_path / "one").fit(MODEL, X, Y, **data).score(X[:1])
    monkeypatch.setattr(_engines, "run_jobs", partial(counted, stop=5))
    values.set_params(cache_dir=tmp_path / "two")
    with pytest.raises(KeyboardInterrupt):
        values.fit(MODEL, X, Y, **data)
    monkeypatch.setattr(_engines, "run_jobs", counted)
    resumed = values.fit(MODEL, X, Y, **data).score(X[:1])
    np.testing.assert_array_equal(resumed, whole)
    in_two_parts = len(trained)
    trained.clear()
    values.set_params(cache_dir=tmp_path / "three").fit(MODEL, X, Y, **data)
    assert in_two_parts == len(trained) > 5
