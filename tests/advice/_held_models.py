"""Advice about linear models beyond logistic regression, and about models that hold others."""

from tests.advice._row import Row

__all__ = ["ROWS"]

SVC = "from sklearn.svm import LinearSVC; "
KERNEL = "from sklearn.kernel_ridge import KernelRidge; "
CALIBRATED = (
    "from sklearn.calibration import CalibratedClassifierCV; "
    "from sklearn.model_selection import StratifiedKFold; "
)
VOTE = "from sklearn.ensemble import VotingClassifier, VotingRegressor; "
OUTPUTS = "from sklearn.multioutput import MultiOutputClassifier, MultiOutputRegressor; "
RIDGES = "[('a', Ridge()), ('b', ElasticNet(l1_ratio=0))]"
SGD = "SGDClassifier(loss='log_loss', early_stopping={}, random_state=0)"
TARGET = (
    "from sklearn.compose import TransformedTargetRegressor; held = TransformedTargetRegressor("
    "HuberRegressor(), func=np.exp, inverse_func=np.log).fit(X, t); "
)
THRESHOLD = (
    "from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV; "
)
TUNED = (
    THRESHOLD + "as_task(TunedThresholdClassifierCV(LogisticRegression(), cv=0.5, {}).fit(X, b))"
)
BALANCED = (
    "from sklearn.multiclass import OneVsRestClassifier; "
    "as_task(OneVsRestClassifier(LogisticRegression(class_weight={})).fit(X, y))"
)
VOTERS = (
    "as_task(VotingClassifier([('a', LogisticRegression(class_weight={})), "
    "('b', LogisticRegression(class_weight='balanced'))], voting='soft').fit(X, b))"
)

OWN = """
class Own(LogisticRegression):
    def predict_proba(self, X):
        return super().predict_proba(X) ** 2

"""

ROWS = [
    Row(
        ", which may differ from that of ",
        OWN + "as_task(Own().fit(X, b))",
        {"retrain_on_subsets": OWN + "retrain_on_subsets(Own(), X, b, X[:9], b[:9], n_subsets=4)"},
    ),
    Row(
        "which is not differentiable at coefficients of zero. Accepted is ElasticNet(l1_ratio=0)",
        "as_task(Lasso().fit(X, t))",
        {
            "ElasticNet(l1_ratio=0)": "as_task(ElasticNet(l1_ratio=0).fit(X, t))",
            "or Ridge": "as_task(Ridge().fit(X, t))",
        },
    ),
    Row(
        "kink, and is linear elsewhere, so influence functions do not apply. Accepted is",
        SVC + "as_task(LinearSVC(loss='hinge').fit(X, b))",
        {"loss='squared_hinge'": SVC + "as_task(LinearSVC(loss='squared_hinge').fit(X, b))"},
    ),
    Row(
        "an objective that is not differentiable. Accepted are penalty='l2' and",
        SVC + "as_task(LinearSVC(penalty='l1', dual=False).fit(X, b))",
        {
            "penalty='l2' and multi_class='ovr'": (
                SVC + "as_task(LinearSVC(penalty='l2', multi_class='ovr').fit(X, b))"
            )
        },
    ),
    Row(
        "model: LinearSVC with class_weight='balanced' and several classes",
        SVC + "as_task(LinearSVC(class_weight='balanced').fit(X, y))",
        {
            "Give class_weight as a dict": (
                SVC + "as_task(LinearSVC(class_weight=dict(enumerate([1.0, 2, 3]))).fit(X, y))"
            )
        },
    ),
    Row(
        "model: KernelRidge(kernel='precomputed') does not know its rows",
        KERNEL + "as_task(KernelRidge(kernel='precomputed').fit(X @ X.T, t))",
        {"Give the kernel by name": KERNEL + "as_task(KernelRidge(kernel='rbf').fit(X, t))"},
    ),
    Row(
        "model: this CalibratedClassifierCV holds several classifiers",
        CALIBRATED + "as_task(CalibratedClassifierCV(model, cv=2).fit(X, y))",
        {
            "An attributor's fit takes them as an ensemble": (
                CALIBRATED + "GradDot().fit(CalibratedClassifierCV(model, cv=2).fit(X, y), X, y)"
            ),
            "fit it with ensemble=False": (
                CALIBRATED
                + "as_task(CalibratedClassifierCV(model, cv=2, ensemble=False).fit(X, y))"
            ),
        },
    ),
    Row(
        "held out rows for validation. Fit it with",
        CALIBRATED
        + f"GradDot().fit(CalibratedClassifierCV({SGD.format(True)}, cv=2).fit(X, y), X, y)",
        {
            "Fit it with early_stopping=False": CALIBRATED
            + f"GradDot().fit(CalibratedClassifierCV({SGD.format(False)}, cv=2).fit(X, y), X, y)"
        },
    ),
    Row(
        "model: its cv was an iterator of splits",
        CALIBRATED + "splits = StratifiedKFold(2).split(X, y); "
        "GradDot().fit(CalibratedClassifierCV(model, cv=splits).fit(X, y), X, y)",
        {
            "Give a list of splits": CALIBRATED + "splits = list(StratifiedKFold(2).split(X, y)); "
            "GradDot().fit(CalibratedClassifierCV(model, cv=splits).fit(X, y), X, y)"
        },
    ),
    Row(
        "model: the folds of this CalibratedClassifierCV were drawn without an integer seed",
        CALIBRATED + "cv = StratifiedKFold(2, shuffle=True); "
        "GradDot().fit(CalibratedClassifierCV(model, cv=cv).fit(X, y), X, y)",
        {
            "cv=StratifiedKFold(5, shuffle=True, random_state=0)": CALIBRATED
            + "held = CalibratedClassifierCV(model, "
            "cv=StratifiedKFold(5, shuffle=True, random_state=0)); "
            "GradDot().fit(held.fit(X, y), X, y)",
            "without shuffle": CALIBRATED
            + "GradDot().fit(CalibratedClassifierCV(model, cv=2).fit(X, y), X, y)  # no shuffle",
        },
    ),
    Row(
        "counts votes, which have no gradient",
        VOTE + "as_task(VotingClassifier([('a', model)]).fit(X, y))",
        {
            "model.set_params(voting='soft')": VOTE
            + "model = VotingClassifier([('a', model)]).fit(X, y); "
            "as_task(model.set_params(voting='soft'))"
        },
    ),
    Row(
        "add their penalties to the summed loss and to the",
        VOTE + f"as_task(VotingRegressor({RIDGES}).fit(X, t))",
        {
            "Give the attributor the list model.estimators_": VOTE
            + f"model = VotingRegressor({RIDGES}).fit(X, t); "
            "GradDot().fit(model.estimators_, X, t)"
        },
    ),
    Row(
        "held out rows for validation (early_stopping), so",
        VOTE + f"as_task(VotingClassifier([('a', {SGD.format(True)})], voting='soft').fit(X, y))",
        {
            "Fit it with early_stopping=False": VOTE
            + f"as_task(VotingClassifier([('a', {SGD.format(False)})], voting='soft').fit(X, y))"
        },
    ),
    Row(
        "model: some members of this vote have class_weight='balanced'",
        VOTE + VOTERS.format(None),
        {"Give class_weight as a dict, or the same": VOTE + VOTERS.format("'balanced'")},
    ),
    Row(
        "of this MultiOutputClassifier has the labels",
        OUTPUTS + "as_task(MultiOutputClassifier(model).fit(X, many + 1))",
        {
            "attributor.fit(model.estimators_[": OUTPUTS
            + "model = MultiOutputClassifier(model).fit(X, many + 1); attributor = GradDot(); "
            "attributor.fit(model.estimators_[0], X, many[:, 0] + 1)"
        },
    ),
    Row(
        "is not known. Explain its outputs one by one",
        OUTPUTS + "as_task(MultiOutputRegressor(HuberRegressor()).fit(X, np.c_[t, t]))",
        {
            "attributor.fit(model.estimators_[0], X, y_of_output)": OUTPUTS
            + "model = MultiOutputRegressor(HuberRegressor()).fit(X, np.c_[t, t]); "
            "attributor, y_of_output = GradDot(), t; "
            "attributor.fit(model.estimators_[0], X, y_of_output)"
        },
    ),
    Row(
        "label counts that it does not store. Give class_weight as a dict: {0: 1.0, 1: 2.0}",
        BALANCED.format("'balanced'"),
        {"class_weight as a dict: {0: 1.0, 1: 2.0}": BALANCED.format("{0: 1.0, 1: 2.0}")},
    ),
    Row(
        "model: TunedThresholdClassifierCV(refit=False) keeps a model fitted on one part of",
        TUNED.format("refit=False"),
        {"Fit it with refit=True": TUNED.format("refit=True")},
    ),
    Row(
        "is not known. Give the classifier",
        THRESHOLD + VOTE + "held = VotingClassifier([('a', model)], voting='soft'); "
        "as_task(FixedThresholdClassifier(held).fit(X, b))",
        {
            "Give the classifier inside: model.estimator_": THRESHOLD
            + VOTE
            + "held = VotingClassifier([('a', model)], voting='soft'); "
            "model = FixedThresholdClassifier(held).fit(X, b); as_task(model.estimator_)"
        },
    ),
    Row(
        "is not known. Give the regressor",
        TARGET + "as_task(held)",
        {
            "model.regressor_, and model.transformer_.transform(y)": TARGET
            + "model, y = held, t[:, None]; "
            "GradDot().fit(model.regressor_, X, model.transformer_.transform(y)[:, 0])"
        },
    ),
]
