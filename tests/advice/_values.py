"""Advice on values from retraining."""

from tests.advice._row import Row

__all__ = ["ROWS"]

FIT = ".fit(model, X, y, **asked, subset_outputs=halved)"

ROWS = [
    Row(
        "which has no parts that learned from rows of",
        "DataOOB().fit(model, X, y)",
        {
            "fit BaggingClassifier(model, n_estimators=100) from sklearn.ensemble": (
                "from sklearn.ensemble import BaggingClassifier; "
                "DataOOB().fit(BaggingClassifier(model, n_estimators=100).fit(X, y), X, y)"
            ),
        },
    ),
    Row(
        "gives distances that are not finite numbers",
        "KNNShapley().fit(model, 1e200 * X, y).score(-1e200 * X[:2], y[:2])",
        {
            "StandardScaler in a Pipeline": (
                "m = make_pipeline(StandardScaler(), classifier()).fit(X, y); "
                "KNNShapley().fit(m, X, y).score(X[:2], y[:2])"
            ),
        },
    ),
    Row(
        "the first subset does not hold all rows",
        f"halved = retrained(model); Shapley(n_trainings=8){FIT}",
        {
            "leave it out to train on": ("Shapley(n_trainings=8).fit(model, X, y, **asked)"),
        },
    ),
    Row(
        "subsets that leave one row out",
        f"halved = retrained(model); LeaveOneOut(){FIT}",
        {
            "Leave subset_outputs out": (
                "LeaveOneOut().fit(model, X, y, **asked, subset_outputs=None)"
            ),
        },
    ),
    Row(
        "of the rows in the mean; accepted are random halves",
        f"halved = retrained(model, subset_fraction=0.8); Banzhaf(){FIT}",
        {
            "retrain_on_subsets(subset_fraction=0.5)": (
                "halved = retrain_on_subsets(model, X, y, X[:9], y[:9], n_subsets=16, "
                f"subset_fraction=0.5, random_state=0); Banzhaf(){FIT}"
            ),
            "Datamodel takes subsets of any size": (
                f"halved = retrained(model, subset_fraction=0.8); Datamodel(){FIT}"
            ),
        },
    ),
]
