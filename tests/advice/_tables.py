"""Advice about weights of examples, Pipelines and memory."""

from tests.advice._row import Row

ROWS = [
    Row(
        "y: got the labels",
        "fairness_gap(np.full(8, 0.5), np.array(['a', 'b'] * 4), np.array([0, 0, 1, 1] * 2), "
        "'equal_opportunity')",
        {
            "say which of them is the positive class: positive=": (
                "fairness_gap(np.full(8, 0.5), np.array(['a', 'b'] * 4), "
                "np.array([0, 0, 1, 1] * 2), 'equal_opportunity', positive='b')"
            ),
        },
    ),
    Row(
        "sample_weight: ",
        (
            "task, recorder = recorded(); "
            "SGDInfluence(recorder.trajectory_).fit(task, Z, y, sample_weight=np.ones(len(y)))"
        ),
        {
            "use InfluenceFunction": (
                "InfluenceFunction('fisher').fit(module_task, Z, y, sample_weight=np.ones(len(y)))"
            ),
        },
    ),
    Row(
        "X_fit: ",
        "InfluenceFunction().fit(model, X, y, X_fit=X)",
        {"Leave X_fit out": "InfluenceFunction().fit(model, X, y)  # no X_fit"},
    ),
    Row(
        "Use curvature='ggn' or 'fisher', which work in",
        "InfluenceFunction('kfac', max_memory='1KB').fit(module_task, Z, y)",
        {
            "curvature='ggn' or 'fisher'": (
                "[InfluenceFunction(curvature=c).fit(module_task, Z, y) for c in ('ggn', 'fisher')]"
            ),
            "'logra', which projects": "InfluenceFunction('logra').fit(module_task, Z, y)",
        },
    ),
    Row(
        "it is not passed to your own training function, retrain=",
        (
            "retrain_on_subsets(model, X, y, X[:9], y[:9], n_subsets=4, "
            "sample_weight=np.ones(len(y)), retrain=lambda model, X, y: model)"
        ),
        {
            "sample_weight: it is not passed to your own training function, retrain=": (
                "retrain_on_subsets(model, X, y, X[:9], y[:9], n_subsets=4, "
                "sample_weight=np.ones(len(y)))  # no retrain="
            ),
        },
    ),
    Row(
        "of the Pipeline gives different values in fit_transform",
        (
            "m = make_pipeline(TargetEncoder(target_type='continuous'), Ridge()).fit(codes, t); "
            "InfluenceFunction().fit(m, codes, t)"
        ),
        {
            "an integer random_state for that step": (
                "m = make_pipeline(TargetEncoder(target_type='continuous', random_state=0), "
                "Ridge()).fit(codes, t); InfluenceFunction().fit(m, codes, t)"
            ),
            "data that the last step was fitted on as X_fit": (
                "encoder = TargetEncoder(target_type='continuous'); "
                "seen = encoder.fit_transform(codes, t); "
                "m = Pipeline([('e', encoder), ('r', Ridge().fit(seen, t))]); "
                "InfluenceFunction().fit(m, codes, t, X_fit=seen)"
            ),
        },
    ),
]
