"""Advice of searches and studies."""

from tests.advice._row import Row

__all__ = ["ROWS"]

ROWS = [
    Row(
        "is not fitted. Fit it, or give model, X and y",
        "compare({'a': InfluenceFunction()}, retrained(model, random_state=0), iris[1][:9])",
        {
            "give model, X and y to have all of them fitted": (
                "compare({'a': InfluenceFunction()}, retrained(model, random_state=0), "
                "iris[1][:9], iris[2][:9], model=model, X=iris[1], y=iris[2])"
            ),
        },
    ),
    Row(
        "subset_outputs: ",
        (
            "truth = retrained(model, random_state=0); truth.outputs[0] = np.nan; "
            "LDSSearch(InfluenceFunction(), **quick).fit(*iris, **asked, subset_outputs=truth)"
        ),
        {
            "leave these subsets out of the search with on_nan='keep'": (
                "truth = retrained(model, random_state=0); truth.outputs[0] = np.nan\n"
                "with warnings.catch_warnings(): # says which were left out\n"
                "    warnings.simplefilter('ignore')\n"
                "    LDSSearch(InfluenceFunction(), on_nan='keep', **quick)"
                ".fit(*iris, **asked, subset_outputs=truth)"
            ),
        },
    ),
    Row(
        " or infinite values of ",
        (
            "truth = retrained(model, random_state=0); truth.outputs[0] = np.nan; "
            "linear_datamodeling_score(truth.outputs, truth.masks, np.ones((9, 50)))"
        ),
        {
            "(SubsetOutputs.diverged)": (
                "truth = retrained(model, random_state=0); truth.outputs[0] = np.nan; "
                "good = ~SubsetOutputs.diverged.fget(truth).any(1); scores = np.ones((9, 50)); "
                "scores[:, ::2] = 0; "
                "linear_datamodeling_score(truth.outputs[good], truth.masks[good], scores)"
            ),
        },
    ),
    Row(
        "was made by a different search. What differs",
        (
            "search = LDSSearch(InfluenceFunction(), storage='sqlite:///s.db', study_name='s', "
            "random_state=0, **quick); search.fit(*iris, **asked); "
            "clone(search).set_params(random_state=1).fit(*iris, **asked)"
        ),
        {
            "Give another study_name": (
                "search = LDSSearch(InfluenceFunction(), storage='sqlite:///s.db', "
                "study_name='s', random_state=0, **quick); search.fit(*iris, **asked); "
                "clone(search).set_params(random_state=1, study_name='t').fit(*iris, **asked)"
            ),
        },
    ),
    Row(
        " Another random_state draws other subsets",
        (
            "search = LDSSearch(InfluenceFunction(), storage='sqlite:///s.db', study_name='s', "
            "random_state=0, **quick); search.fit(*iris, **asked); "
            "clone(search).set_params(random_state=1).fit(*iris, **asked)"
        ),
        {
            "Another random_state draws other subsets: give subset_outputs= of the first": (
                "search = LDSSearch(InfluenceFunction(), storage='sqlite:///s.db', "
                "study_name='s', random_state=0, **quick); search.fit(*iris, **asked); "
                "clone(search).set_params(random_state=1).fit(*iris, **asked, "
                "subset_outputs=search.subset_outputs_)"
            ),
        },
    ),
    Row(
        "was not made by this version of LDSSearch",
        (
            "study = optuna.create_study(storage='sqlite:///s.db', study_name='s', "
            "direction='maximize'); study.add_trial(optuna.trial.create_trial(value=1.0)); "
            "LDSSearch(InfluenceFunction(), storage='sqlite:///s.db', study_name='s', **quick)"
            ".fit(*iris, **asked)"
        ),
        {
            "give another study_name": (
                "LDSSearch(InfluenceFunction(), storage='sqlite:///s.db', study_name='t', **quick)"
                ".fit(*iris, **asked)"
            ),
        },
    ),
    Row(
        ": FloatDistribution(1e-6, 10.0, log=True)}, with",
        "LDSSearch(InfluenceFunction('cg'), **quick).fit(model, X, y, **asked)",
        {
            "search_space={'damping': FloatDistribution(1e-6, 10.0, log=True)}": (
                "LDSSearch(InfluenceFunction('cg'), search_space={'damping': "
                "FloatDistribution(1e-6, 10.0, log=True)}, **quick).fit(model, X, y, "
                "**asked)"
            ),
            "with FloatDistribution of optuna.distributions": (
                "from optuna.distributions import FloatDistribution"
            ),
        },
    ),
    Row(
        "Give the candidates, for instance dampings=np.geomspace(1e-6,",
        "SurrogateLambdaSearchCV(InfluenceFunction('cg')).fit(model, X, y)",
        {
            "dampings=np.geomspace(1e-6, 1e1, 29)": (
                "SurrogateLambdaSearchCV(InfluenceFunction('cg'), "
                "dampings=np.geomspace(1e-6, 1e1, 29)).fit(model, X, y)"
            ),
        },
    ),
    Row(
        ", which could be a range or",
        (
            "LDSSearch(InfluenceFunction(), {'damping': (0.1, 1.0)}, "
            "**quick).fit(model, X, y, **asked)"
        ),
        {
            "FloatDistribution(0.1, 1.0, log=True)": (
                "LDSSearch(InfluenceFunction(), {'damping': FloatDistribution(0.1, 1.0, "
                "log=True)}, **quick).fit(model, X, y, **asked)"
            ),
            "the list [0.1, 1.0]": (
                "LDSSearch(InfluenceFunction(), {'damping': [0.1, 1.0]}, "
                "**quick).fit(model, X, y, **asked)"
            ),
        },
    ),
    Row(
        "X_query: got None; LDSSearch measures the LDS on examples",
        "LDSSearch(InfluenceFunction(), **quick).fit(model, X, y)",
        {
            "fit(model, X, y, X_query=X_val, y_query=y_val)": (
                "X_val, y_val = X[:9], y[:9]; LDSSearch(InfluenceFunction(), "
                "**quick).fit(model, X, y, X_query=X_val, y_query=y_val)"
            ),
        },
    ),
    Row(
        "y_query: got None; retrained models must be",
        ("LDSSearch(InfluenceFunction(), **quick).fit(model, X, y, X_query=X[:9])"),
        {
            "Give y_query, for instance model.predict(X_query)": (
                "X_query = X[:9]; LDSSearch(InfluenceFunction(), **quick).fit(model, X, y, "
                "X_query=X_query, y_query=model.predict(X_query))"
            ),
        },
    ),
    Row(
        "of the retrained models, but the attributor",
        (
            "found = retrained(model, output='margin'); LDSSearch(InfluenceFunction(), "
            "n_trials=2).fit(model, X, y, **asked, subset_outputs=found)"
        ),
        {
            "Retrain with output='neg_loss'": (
                "found = retrained(model, output='neg_loss'); "
                "LDSSearch(InfluenceFunction(), n_trials=2).fit(model, X, y, **asked, "
                "subset_outputs=found)"
            ),
            "give the attributor output='margin'": (
                "found = retrained(model, output='margin'); "
                "LDSSearch(InfluenceFunction(output='margin'), n_trials=2).fit(model, X, "
                "y, **asked, subset_outputs=found)"
            ),
        },
    ),
    Row(
        "does not have a parameter 'damping'. Accepted",
        "SurrogateLambdaSearchCV(GradDot()).fit(model, X, y)",
        {
            ("parameter 'damping'. Accepted are attributors with one, such as InfluenceFunction"): (
                "assert 'damping' in InfluenceFunction().get_params(); "
                "SurrogateLambdaSearchCV(InfluenceFunction()).fit(model, X, y)"
            ),
        },
    ),
    Row(
        "got None, which searches 'damping', but",
        "LDSSearch(GradDot(), n_subsets=4).fit(model, X, y, **asked)",
        {
            "searches 'damping'": "assert 'damping' not in GradDot().get_params()",
            "Give a dict of parameters and their choices": (
                "LDSSearch(GradDot(), {'batch_size': [4, 8]}, **quick).fit(model, X, y, **asked)"
            ),
        },
    ),
    Row(
        ". Look at the path with",
        (
            "SurrogateLambdaSearchCV(InfluenceFunction(), dampings=[1e3, 1e4], criterion='xi', "
            "random_state=0).fit(*learned)"
        ),
        {
            "LambdaPathDisplay.from_estimator(search)": (
                "search = SurrogateLambdaSearchCV(InfluenceFunction(), "
                "random_state=0).fit(*learned); LambdaPathDisplay.from_estimator(search)"
            ),
            "give wider or denser dampings": (
                "SurrogateLambdaSearchCV(InfluenceFunction(), dampings=np.geomspace(1e-6, 1e4, "
                "40), random_state=0).fit(*learned)"
            ),
            "criterion='cosine'": (
                "SurrogateLambdaSearchCV(InfluenceFunction(), criterion='cosine', "
                "random_state=0).fit(*learned)"
            ),
        },
    ),
    Row(
        "Use criterion='auto', which takes this into account, or ",
        (
            "SurrogateLambdaSearchCV(InfluenceFunction(), criterion='xi', random_state=0).fit("
            "LinearRegression().fit(X, t), X, t)"
        ),
        {
            "criterion='auto'": (
                "SurrogateLambdaSearchCV(InfluenceFunction(), criterion='auto', random_state=0)"
                ".fit(LinearRegression().fit(X, t), X, t)"
            ),
            "LDSSearch": (
                "LDSSearch(InfluenceFunction(), **quick).fit(model, X, y, X_query=X[9:20], "
                "y_query=y[9:20])"
            ),
        },
    ),
    Row(
        "The LDS is undefined in every trial:",
        (
            "LDSSearch(InfluenceFunction(), **quick, retrain=lambda X_, y_, seed: "
            "model).fit(model, X, y, **asked)"
        ),
        {
            "Give other queries in X_query, or more varied subsets": (
                "LDSSearch(InfluenceFunction(), **quick).fit(model, X, y, X_query=X[9:20], "
                "y_query=y[9:20])"
            ),
        },
    ),
    Row(
        "is not defined for any query: their",
        (
            "SurrogateLambdaSearchCV(InfluenceFunction(output=lambda z, y: 0 * z[:, "
            "0])).fit(model, X, y)"
        ),
        {
            "Give other queries in X_query": (
                "SurrogateLambdaSearchCV(InfluenceFunction()).fit(model, X, y, "
                "X_query=X[:8], y_query=y[:8])"
            ),
            "larger dampings": (
                "SurrogateLambdaSearchCV(InfluenceFunction(), dampings=[1.0, "
                "10.0]).fit(model, X, y)"
            ),
            "use LDSSearch": "LDSSearch(InfluenceFunction(), **quick).fit(model, X, y, **asked)",
        },
    ),
    Row(
        "X_query: got None; give the queries of",
        (
            "found = retrained(model); SensitivityStudy({'IF': (InfluenceFunction(), "
            "{'damping': [1.0]})}).fit(model, X, y, subset_outputs=found)"
        ),
        {
            "give the queries of subset_outputs": (
                "found = retrained(model); SensitivityStudy({'IF': (InfluenceFunction(), "
                "{'damping': [1.0]})}).fit(model, X, y, X[:9], y[:9], subset_outputs=found)"
            ),
        },
    ),
    Row(
        "y_query: got None; attributors must explain the",
        (
            "found = retrained(model); SensitivityStudy({'IF': (InfluenceFunction(), "
            "{'damping': [1.0]})}).fit(model, X, y, X[:9], subset_outputs=found)"
        ),
        {
            "Give the y_query of subset_outputs": (
                "found = retrained(model); SensitivityStudy({'IF': (InfluenceFunction(), "
                "{'damping': [1.0]})}).fit(model, X, y, X[:9], y_query=y[:9], "
                "subset_outputs=found)"
            ),
        },
    ),
    Row(
        ". Give a list of models trained",
        (
            "found = retrained(model); SensitivityStudy({'IF': (InfluenceFunction(), "
            "{'n_models': [2]})}).fit(model, X, y, X[:9], y[:9], subset_outputs=found)"
        ),
        {
            "Give a list of models trained on the same data": (
                "found = retrained(model); SensitivityStudy({'IF': (InfluenceFunction(), "
                "{'n_models': [2]})}).fit([model, model], X, y, X[:9], y[:9], "
                "subset_outputs=found)"
            ),
        },
    ),
    Row(
        "cache_dir: with random_state=None every call draws other seeds,",
        (
            "SensitivityStudy({'IF': (InfluenceFunction(), {'damping': [0.1, 1.0]})}, "
            "cache_dir='.').fit(model, X, y, X[:9], y[:9], "
            "subset_outputs=retrained(model))"
        ),
        {
            "Set random_state to an int": (
                "SensitivityStudy({'IF': (InfluenceFunction(), {'damping': [0.1, 1.0]})}, "
                "cache_dir=tempfile.mkdtemp(), random_state=0).fit(model, X, y, X[:9], "
                "y[:9], subset_outputs=retrained(model))"
            ),
        },
    ),
    Row(
        ". Give checkpoints to fit, or training_epochs",
        (
            "SensitivityStudy({'IF': (InfluenceFunction(), {'checkpoint': [1, "
            "'final']})}, ).fit(net, Z, y, Z[:9], y[:9], subset_outputs=retrained(net))"
        ),
        {
            "Give checkpoints to fit": (
                "SensitivityStudy({'IF': (InfluenceFunction(), {'checkpoint': [1, "
                "'final']})}, ).fit(net, Z, y, Z[:9], y[:9], "
                "subset_outputs=retrained(net), checkpoints={1: net.module_.state_dict()})"
            ),
            "training_epochs to the study": (
                "SensitivityStudy({'IF': (InfluenceFunction(), {'checkpoint': [1, "
                "'final']})}, training_epochs=[1]).fit(net, Z, y, Z[:9], y[:9], "
                "subset_outputs=retrained(net))"
            ),
        },
    ),
    Row(
        "were given, but none of the grids has the axis",
        (
            "SensitivityStudy({'IF': (InfluenceFunction(), {'damping': [0.1, 1.0]})}, "
            "training_epochs=[1]).fit(net, Z, y, Z[:9], y[:9], "
            "subset_outputs=retrained(net))"
        ),
        {
            "for instance {'checkpoint': [1, 'final']}": (
                "SensitivityStudy({'IF': (InfluenceFunction(), {'damping': [0.1, 1.0]} | "
                "{'checkpoint': [1, 'final']})}, training_epochs=[1]).fit(net, Z, y, "
                "Z[:9], y[:9], subset_outputs=retrained(net))"
            ),
        },
    ),
]
