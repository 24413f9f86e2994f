"""Advice of applications and groups."""

from tests.advice._row import Row

__all__ = ["ROWS"]

ROWS = [
    Row(
        "method: 'rounds' fits the estimator many times, but",
        "NoisyLabelDetector(FrozenEstimator(model), method='rounds').fit(X, y)",
        {
            "use method='loss'": (
                "NoisyLabelDetector(FrozenEstimator(model), method='loss').fit(X, y)"
            ),
        },
    ),
    Row(
        "cv: method='self_influence' is of the model that",
        (
            "NoisyLabelDetector(classifier(), method='self_influence', cv=3, "
            "contamination=0.1).fit(X, y)"
        ),
        {
            "leave cv at None": (
                "NoisyLabelDetector(classifier(), method='self_influence', "
                "contamination=0.1).fit(X, y)"
            ),
            "take method='validation_influence'": (
                "NoisyLabelDetector(classifier(), method='validation_influence', cv=3).fit(X, y)"
            ),
        },
    ),
    Row(
        "cv: trusted rows (X_val) take the place",
        (
            "NoisyLabelDetector(classifier(), method='validation_influence', "
            "cv=3).fit(X, y, X[:9], y[:9])"
        ),
        {
            "leave cv at None": (
                "NoisyLabelDetector(classifier(), method='validation_influence').fit(X, y, "
                "X_val=X[:9], y_val=y[:9])"
            ),
            "trusted rows (X_val)": (
                "NoisyLabelDetector(classifier(), method='validation_influence').fit(X, y, "
                "X_val=X[:9], y_val=y[:9])"
            ),
        },
    ),
    Row(
        "has no model to ask for the likely labels",
        (
            "NoisyLabelDetector(classifier(), method='self_influence', refit=False).fit(X, y)"
            ".review_table_"
        ),
        {
            "Set refit=True and fit again": (
                "NoisyLabelDetector(classifier(), method='self_influence', refit=True).fit(X, y)"
                ".review_table_"
            ),
        },
    ),
    Row(
        "groups: they are for folds",
        "NoisyLabelDetector(classifier(), method='loss').fit(X, y, groups=np.arange(len(y)))",
        {
            "Leave groups out": "NoisyLabelDetector(classifier(), method='loss').fit(X, y)",
            "use method='rounds'": (
                "NoisyLabelDetector(classifier(), method='rounds').fit(X, y, "
                "groups=np.arange(len(y)))"
            ),
            "'loss' with cv=5": (
                "NoisyLabelDetector(classifier(), method='loss', cv=5).fit(X, y, "
                "groups=np.arange(len(y)))"
            ),
        },
    ),
    Row(
        "accepted are at least as many. Set cv=",
        "NoisyLabelDetector(classifier()).fit(X, y, groups=np.arange(len(y)) % 3)",
        {
            "Set cv=3": (
                "NoisyLabelDetector(classifier(), cv=3).fit(X, y, groups=np.arange(len(y)) % 3)"
            ),
        },
    ),
    Row(
        "; accepted are rows of data. The",
        ("NoisyLabelDetector(LogisticRegression()).fit(LogisticRegression(), X, y)"),
        {
            "NoisyLabelDetector(estimator).fit(X, y)": (
                "estimator = classifier(); NoisyLabelDetector(estimator).fit(X, y)"
            ),
        },
    ),
    Row(
        "does not have class probabilities (predict_proba). Use a",
        "NoisyLabelDetector(LinearSVC()).fit(X, y)",
        {
            "wrap it in scikit-learn's CalibratedClassifierCV": (
                "NoisyLabelDetector(CalibratedClassifierCV(LinearSVC())).fit(X, y)"
            ),
        },
    ),
    Row(
        "wrap it in scikit-learn's CalibratedClassifierCV",
        "NoisyLabelDetector(LinearSVC()).fit(X, y)",
        {
            "wrap it in scikit-learn's CalibratedClassifierCV": (
                "NoisyLabelDetector(CalibratedClassifierCV(LinearSVC())).fit(X, y)"
            ),
        },
    ),
    Row(
        "does not have class probabilities (predict_proba). Use a",
        "NoisyLabelDetector(RidgeClassifier(), method='loss').fit(X, y)",
        {
            "CalibratedClassifierCV": (
                "NoisyLabelDetector(CalibratedClassifierCV(RidgeClassifier()), "
                "method='loss').fit(X, y)"
            ),
        },
    ),
    Row(
        "accepted is the position of the positive class, its column",
        "DemographicParityDifference(y > 0, positive='no')",
        {
            "list(model.classes_).index(label)": (
                "DemographicParityDifference(y > 0, positive=list(model.classes_).index(1))"
            ),
        },
    ),
    Row(
        "without the calibration, so they are not those",
        "m = CalibratedClassifierCV(classifier(), cv=2).fit(X, y); GroupAttributor(GradDot(), "
        "property=DemographicParityDifference(X[:, 0] > np.median(X[:, 0]))"
        ").fit(m, X, y, groups=y)",
        {
            "influencekit.applications.group_counterfactual": (
                "from influencekit.applications import group_counterfactual; two = y > 0; "
                "group_counterfactual(CalibratedClassifierCV(classifier(), cv=2), X, two, X, two, "
                "X[:, 1] > np.median(X[:, 1]), sensitive=X[:, 0] > np.median(X[:, 0]), "
                "n_repeats=1)"
            ),
        },
    ),
    Row(
        "have no natural threshold here, so",
        "NoisyLabelDetector(classifier(), method='self_influence').fit_predict(X, y)",
        {
            "contamination=0.1": (
                "NoisyLabelDetector(classifier(), method='self_influence', "
                "contamination=0.1).fit_predict(X, y)"
            ),
        },
    ),
    Row(
        "is not a classifier. Use method='loss'.",
        ("NoisyLabelDetector(Ridge(), method='rounds', contamination=0.1).fit(X, t)"),
        {
            "Use method='loss'": (
                "NoisyLabelDetector(Ridge(), method='loss', contamination=0.1).fit(X, t)"
            ),
        },
    ),
    Row(
        "does not use trusted rows; leave X_val and",
        ("NoisyLabelDetector(classifier(), method='loss').fit(X, y, X[:9], y[:9])"),
        {
            "leave X_val and y_val out": (
                "NoisyLabelDetector(classifier(), method='loss').fit(X, y)  # X_val, y_val"
            ),
            "use method='validation_influence'": (
                "NoisyLabelDetector(classifier(), method='validation_influence').fit(X, y, "
                "X[:9], y[:9])"
            ),
        },
    ),
    Row(
        "estimator: a FrozenEstimator learned from all rows,",
        ("NoisyLabelDetector(FrozenEstimator(model), method='validation_influence').fit(X, y)"),
        {
            "Give the unfitted estimator": (
                "NoisyLabelDetector(classifier(), method='validation_influence').fit(X, y)"
            ),
            "trusted rows (X_val, y_val)": (
                "NoisyLabelDetector(FrozenEstimator(model), "
                "method='validation_influence').fit(X, y, X_val=X[:9], y_val=y[:9])"
            ),
        },
    ),
    Row(
        "divides the gradient of each test row",
        ("GroupAttributor(GradCos(), property='mean_neg_loss').fit(model, X, y, groups=y)"),
        {
            "Use GradDot": (
                "GroupAttributor(GradDot(), property='mean_neg_loss').fit(model, X, y, groups=y)"
            ),
        },
    ),
    Row(
        ". Use fewer groups, curvature='points', which does",
        (
            "GroupAttributor(InfluenceFunction('fisher', max_memory=200), "
            "curvature='groups').fit(model, X, y, groups=y)"
        ),
        {
            "curvature='points'": (
                "GroupAttributor(InfluenceFunction('fisher'), "
                "curvature='points').fit(model, X, y, groups=y).score(X, y)"
            ),
            "fewer dimensions (projection_dim)": (
                "GroupAttributor(InfluenceFunction('fisher', max_memory=200, projection_dim=4), "
                "curvature='groups').fit(model, X, y, groups=y)"
            ),
            "raise max_memory": (
                "GroupAttributor(InfluenceFunction('fisher', max_memory='1GB'), "
                "curvature='groups').fit(model, X, y, groups=y).score(X, y)"
            ),
        },
    ),
    Row(
        "accepted is a list of properties with names of their own",
        (
            "GroupAttributor(GradDot(), property=[DemographicParityDifference(y > 0), "
            "DemographicParityDifference(y > 1)]).fit(model, X, y, groups=y)"
        ),
        {
            "{'gap by sex': DemographicParityDifference(": (
                "GroupAttributor(GradDot(), property={'gap by sex': "
                "DemographicParityDifference(y > 0), 'other': DemographicParityDifference(y > 1)})"
                ".fit(model, X, y, groups=y).score(X, y)"
            ),
        },
    ),
    Row(
        "got a GroupAttributor of several properties",
        (
            "grouped = GroupAttributor(GradDot(), property=['mean_neg_loss', "
            "DemographicParityDifference(y > 0)]).fit(model, X, y, groups=y); "
            "GroupScoresDisplay.from_estimator(grouped, X, y)"
        ),
        {
            "GroupScoresDisplay.from_predictions": (
                "grouped = GroupAttributor(GradDot(), property=['mean_neg_loss', "
                "DemographicParityDifference(y > 0)]).fit(model, X, y, groups=y); "
                "GroupScoresDisplay.from_predictions(grouped.score(X, y)[1], grouped.group_names_)"
            ),
        },
    ),
    Row(
        "scores of groups are the exact sums at any size",
        (
            "choose_group_size(GroupAttributor(InfluenceFunction('fisher'), "
            "RandomGrouper(group_size=2)), model, X, y, X, y, group_sizes=[2])"
        ),
        {
            "Take compare='rows'": (
                "choose_group_size(GroupAttributor(InfluenceFunction('fisher'), "
                "RandomGrouper(group_size=2)), model, X, y, X, y, group_sizes=[2], compare='rows')"
            ),
            "GroupAttributor(..., curvature='groups')": (
                "choose_group_size(GroupAttributor(InfluenceFunction('fisher'), "
                "RandomGrouper(group_size=2), curvature='groups'), model, X, y, X, y, "
                "group_sizes=[2])"
            ),
        },
    ),
    Row(
        "; accepted are InfluenceFunction('fisher') and TRAK. Use",
        ("GroupAttributor(GradDot(), curvature='groups').fit(model, X, y, groups=y)"),
        {
            "Use curvature='points'": (
                "GroupAttributor(GradDot(), curvature='points').fit(model, X, y, groups=y)"
            ),
        },
    ),
    Row(
        "rows have a missing label (NaN or None)",
        (
            "labels = pd.Series(['a', None] * 25); "
            "GroupAttributor(GradDot()).fit(model, X, y, groups=labels)"
        ),
        {
            "labels.fillna('missing')": (
                "labels = pd.Series(['a', None] * 25); "
                "GroupAttributor(GradDot()).fit(model, X, y, "
                "groups=labels.fillna('missing'))"
            ),
        },
    ),
    Row(
        ". Impute it, for instance by a",
        ("A = Z.copy(); A[0] = np.nan; NoisyLabelDetector(skorch_net(), method='loss').fit(A, y)"),
        {
            "for instance by a SimpleImputer in a Pipeline": (
                "A = Z.copy(); A[0] = np.nan; "
                "NoisyLabelDetector(make_pipeline(SimpleImputer(), skorch_net()), "
                "method='loss').fit(A, y)"
            ),
        },
    ),
    Row(
        "y: group_counterfactual measures gaps of binary classifiers;",
        (
            "group_counterfactual(LogisticRegression(), X, y, X[:9], y[:9], groups=y, "
            "sensitive=y[:9])"
        ),
        {
            "use retrain_on_subsets": "retrain_on_subsets(model, X, y, X[:8], y[:8], n_subsets=4)",
        },
    ),
    Row(
        "compares groups of the people asked. Give",
        (
            "group_counterfactual(LogisticRegression(), X, b, X[:9], b[:9], "
            "groups=np.arange(50) % 4, n_repeats=1)"
        ),
        {
            "Give the group of each row of X_query": (
                "group_counterfactual(LogisticRegression(), X, b, X_query=X[:20], "
                "y_query=b[:20], groups=np.arange(50) % 4, sensitive=np.arange(20) % 2, "
                "n_repeats=1)"
            ),
        },
    ),
    Row(
        "around a GroupAttributor, but",
        (
            "DatasetPruner(classifier(), SurrogateLambdaSearchCV(GroupAttributor("
            "InfluenceFunction('fisher'), LabelGrouper(y)))).fit(X, y)"
        ),
        {
            "GroupAttributor(SurrogateLambdaSearchCV(InfluenceFunction()), grouper)": (
                "grouper = LabelGrouper(y); DatasetPruner(classifier(), "
                "GroupAttributor(SurrogateLambdaSearchCV(InfluenceFunction()), grouper)).fit(X, y)"
            ),
        },
    ),
    Row(
        "method: 'self_influence' is of single rows",
        (
            "NoisyLabelDetector(classifier(), GroupAttributor(InfluenceFunction('fisher'), "
            "curvature='groups'), method='self_influence', contamination=0.1).fit(X, y)"
        ),
        {
            "Take curvature='points'": (
                "NoisyLabelDetector(classifier(), GroupAttributor(InfluenceFunction('fisher'), "
                "curvature='points'), method='self_influence', contamination=0.1).fit(X, y)"
            ),
            "method='validation_influence'": (
                "NoisyLabelDetector(classifier(), GroupAttributor(InfluenceFunction('fisher'), "
                "curvature='groups'), method='validation_influence').fit(X, y)"
            ),
        },
    ),
    Row(
        "which has its own; accepted is one of the two",
        (
            "NoisyLabelDetector(classifier(), GroupAttributor(GradDot(), LabelGrouper(y)), "
            "method='validation_influence', grouper=LabelGrouper(y)).fit(X, y)"
        ),
        {
            "Leave grouper at None": (
                "NoisyLabelDetector(classifier(), GroupAttributor(GradDot(), LabelGrouper(y)), "
                "method='validation_influence').fit(X, y)"
            ),
            "give the attributor of single examples": (
                "NoisyLabelDetector(classifier(), GradDot(), method='validation_influence', "
                "grouper=LabelGrouper(y)).fit(X, y)"
            ),
        },
    ),
    Row(
        ", which scores groups, but this display shows single training",
        (
            "grouped = GroupAttributor(GradDot()).fit(model, X, y, groups=y); "
            "TopExamplesDisplay.from_estimator(grouped, X, X[:5])"
        ),
        {
            "Give attributor_ of the fitted GroupAttributor": (
                "grouped = GroupAttributor(GradDot()).fit(model, X, y, groups=y); "
                "TopExamplesDisplay.from_estimator(grouped.attributor_, X, X[:5])"
            ),
            "GroupScoresDisplay.from_estimator(grouped, X_query)": (
                "grouped = GroupAttributor(GradDot()).fit(model, X, y, groups=y); X_query = X[:5]; "
                "GroupScoresDisplay.from_estimator(grouped, X_query)"
            ),
        },
    ),
    Row(
        ", whose groups have no scores of single",
        (
            "grouped = GroupAttributor(TRAK(), curvature='groups').fit(model, X, y, groups=y); "
            "AttributionReport.from_attributor(grouped, X[:5], y[:5])"
        ),
        {
            "evaluation={'groups': GroupScoresDisplay.from_estimator(grouped, X_query)}": (
                "grouped = GroupAttributor(GradDot()).fit(model, X, y, groups=y); X_query = X[:5]; "
                "AttributionReport.from_attributor(grouped.attributor_, X_query, y[:5], "
                "evaluation={'groups': GroupScoresDisplay.from_estimator(grouped, X_query)})"
            ),
        },
    ),
    Row(
        "inside needs examples that the model was not",
        "GroupAttributor(LDSSearch(InfluenceFunction(), **quick)).fit(model, X, y, groups=y)",
        {
            "fit(model, X, y, groups=groups, X_query=X_val, y_query=y_val)": (
                "groups = y; X_val, y_val = X[:9], y[:9]; "
                "GroupAttributor(LDSSearch(InfluenceFunction(), **quick)).fit(model, X, y, "
                "groups=groups, X_query=X_val, y_query=y_val)"
            ),
        },
    ),
    Row(
        "does not pass on. Fit the search first",
        (
            "DatasetPruner(classifier(), GroupAttributor(LDSSearch(InfluenceFunction(), **quick), "
            "LabelGrouper(y))).fit(X, y)"
        ),
        {
            "give its best_attributor_ instead": (
                "search = LDSSearch(InfluenceFunction(), **quick).fit(*iris, **asked); "
                "DatasetPruner(classifier(), GroupAttributor(search.best_attributor_, "
                "LabelGrouper(y))).fit(X, y)"
            ),
        },
    ),
    Row(
        "with a property, one number of all rows",
        (
            "SurrogateLambdaSearchCV(GroupAttributor(InfluenceFunction(), "
            "property='mean_neg_loss')).fit(model, X, y)"
        ),
        {
            "GroupAttributor(SurrogateLambdaSearchCV(InfluenceFunction()), property=...)": (
                "GroupAttributor(SurrogateLambdaSearchCV(InfluenceFunction()), "
                "property='mean_neg_loss').fit(model, X, y, groups=y).score(X, y)"
            ),
        },
    ),
    Row(
        "scores groups already; accepted is an attributor of",
        "GroupAttributor(GroupAttributor(InfluenceFunction())).fit(model, X, y, groups=y)",
        {
            "LDSSearch(GroupAttributor(InfluenceFunction()))": (
                "LDSSearch(GroupAttributor(InfluenceFunction()), **quick).fit(*iris, **asked)"
            ),
        },
    ),
    Row(
        "subsets split groups",
        (
            "LDSSearch(GroupAttributor(InfluenceFunction('fisher'), LabelGrouper("
            "np.arange(50) % 8), curvature='groups'), **quick).fit(*iris, **asked, "
            "subset_outputs=retrained(model))"
        ),
        {
            "let LDSSearch draw them, without subset_outputs": (
                "LDSSearch(GroupAttributor(InfluenceFunction('fisher'), LabelGrouper("
                "np.arange(50) % 8), curvature='groups'), **quick).fit(*iris, **asked)"
                "  # no subset_outputs"
            ),
            "give them to retrain_on_subsets as masks": (
                "labels = np.arange(50) % 8; masks = np.eye(8, dtype=bool)[:, labels] ^ True; "
                "truth = retrain_on_subsets(model, X, y, X[:9], y[:9], masks=masks); "
                "LDSSearch(GroupAttributor(InfluenceFunction('fisher'), LabelGrouper(labels), "
                "curvature='groups'), **quick).fit(*iris, **asked, subset_outputs=truth)"
            ),
        },
    ),
    Row(
        "Wrap it in scikit-learn's CalibratedClassifierCV.",
        "DatasetPruner(SVC()).fit(X, y)",
        {
            "CalibratedClassifierCV": (
                "estimator = CalibratedClassifierCV(SVC(), cv=2)\n"
                "DatasetPruner(estimator, attributor=NoisyLabelDetector(estimator)).fit(X, y)"
            ),
        },
    ),
    Row(
        "cannot read RandomForestClassifier. For trees take",
        "DatasetPruner(RandomForestClassifier(3), InfluenceFunction()).fit(X, y)",
        {
            "attributor=TreeInfluence()": (
                "DatasetPruner(RandomForestClassifier(3), attributor=TreeInfluence()).fit(X, y)"
            ),
            "attributor=NoisyLabelDetector(estimator)": (
                "estimator = RandomForestClassifier(3)\n"
                "DatasetPruner(estimator, attributor=NoisyLabelDetector(estimator)).fit(X, y)"
            ),
            "strategy='random'": (
                "DatasetPruner(RandomForestClassifier(3), strategy='random').fit(X, y)"
            ),
        },
    ),
    Row(
        "cannot read GaussianNB. What needs no gradients takes it: method='auto'",
        "NoisyLabelDetector(GaussianNB(), method='validation_influence').fit(X, y)",
        {"method='auto'": "NoisyLabelDetector(GaussianNB(), method='auto').fit(X, y)"},
    ),
]
