"""Advice on recorded trainings, on what learns from them, and on files."""

from tests.advice._row import Row

__all__ = ["ROWS"]

_ASKED = "X_query=X[:9], y_query=y[:9]"
_POSTERIOR = (
    "posterior = SubsetPosterior(None, n_trainings=20, random_state=0)"
    f".fit(model, X, y, {_ASKED}); "
)
_SWEEP = (
    "SubsetPosterior(GradDot(), scores='sweep').fit("
    "net, Z, y, subset_outputs=truth, X_query=Z[:9], y_query=y[:9])"
)
_HALF = "half = short_net(HalfNet).fit(Z, y); retrained(half, record='checkpoints', random_state=0"

ROWS = [
    Row(
        ", which is about the batches that a row was ",
        (
            "task, recorder = recorded(); SGDInfluence(recorder.trajectory_, rows='all')"
            ".fit(task, Z, y).expected_lds_"
        ),
        {
            "Use rows='batch'": (
                "task, recorder = recorded(); SGDInfluence(recorder.trajectory_, rows='batch')"
                ".fit(task, Z, y).expected_lds_"
            ),
        },
    ),
    Row(
        "did not learn from the same trainings. Fit it",
        (
            f"{_POSTERIOR}other = SubsetPosterior(None, n_trainings=20, random_state=1)"
            f".fit(model, X, y, {_ASKED}); posterior.lds_difference(other)"
        ),
        {
            "with subset_outputs=posterior.subset_outputs_": (
                f"{_POSTERIOR}other = SubsetPosterior(None).fit(model, X, y, "
                f"subset_outputs=posterior.subset_outputs_, {_ASKED}); "
                "posterior.lds_difference(other)"
            ),
            "give scores, such as other.score(X_query, y_query)": (
                f"X_query, y_query = X[:9], y[:9]; {_POSTERIOR}other = GradDot().fit(model, X, y); "
                "posterior.lds_difference(other.score(X_query, y_query))"
            ),
        },
    ),
    Row(
        "scores='sweep' goes through the recorded trainings",
        f"truth = retrained(net); {_SWEEP}",
        {
            "Retrain with retrain_on_subsets(..., record='trajectory')": (
                "truth = retrain_on_subsets(net, Z, y, Z[:9], y[:9], n_subsets=4, "
                f"record='trajectory'); {_SWEEP}"
            ),
            "scores='prior'": "truth = retrained(net); " + _SWEEP.replace("sweep", "prior"),
        },
    ),
    Row(
        "among data or parameters cannot be fingerprinted",
        "retrained(model, retrain=with_lock, cache_dir='c', random_state=0)",
        {
            "leave cache_dir out and keep results with SubsetOutputs": (
                "truth = retrained(model, retrain=with_lock, cache_dir=None, random_state=0); "
                "SubsetOutputs.save(truth, 'truth.npz')"
            ),
        },
    ),
    Row(
        ", whose training cannot be recorded; accepted are skorch nets",
        "retrained(model, record='checkpoints')",
        {"Use record=None": "retrained(model, record=None)"},
    ),
    Row(
        "are float16, float32, float64 and integers. Train in one",
        _HALF + ", cache_dir='c')",
        {
            "Train in one of these": "retrained(net, record='checkpoints', random_state=0)",
            "leave cache_dir out": _HALF + ", cache_dir=None)",
        },
    ),
    Row(
        "accepted is a file written by SubsetOutputs.save. Restore it",
        "open('truth.npz', 'wb').write(b'nothing'); SubsetOutputs.load('truth.npz')",
        {
            "retrain: what cache_dir holds is not trained again": (
                "retrained(net, cache_dir='c', random_state=0).save('truth.npz'); "
                "SubsetOutputs.load('truth.npz')"
            ),
        },
    ),
]
