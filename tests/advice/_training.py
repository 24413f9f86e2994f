"""Advice on retraining and further training."""

from tests.advice._row import Row

__all__ = ["ROWS"]

ROWS = [
    Row(
        " reruns gave outputs that are NaN or infinite",
        (
            "task, recorder = recorded(); trajectory_leave_one_out(task, Z, y, *two, "
            "trajectory=recorder.trajectory_, left_out=[0], "
            "output=lambda o, t: o[:, 0] / 0 * 0)"
        ),
        {
            "leave those rows out of left_out=": (
                "task, recorder = recorded(); trajectory_leave_one_out(task, Z, y, *two, "
                "trajectory=recorder.trajectory_, left_out=[1])"
            ),
            "use on_nan='keep'": (
                "task, recorder = recorded()\n"
                "with warnings.catch_warnings(): # says what was kept\n"
                "    warnings.simplefilter('ignore')\n"
                "    trajectory_leave_one_out(task, Z, y, *two, on_nan='keep', left_out=[0], "
                "trajectory=recorder.trajectory_, output=lambda o, t: o[:, 0] / 0 * 0)"
            ),
        },
    ),
    Row(
        ". Train and save them yourself, and",
        "train_checkpoints(model, X, y, epochs=[1])",
        {
            "influencekit.models.load_checkpoints reads state dicts": (
                "load_checkpoints(module, [module.state_dict()], "
                "loss=nn.CrossEntropyLoss())  # influencekit.models.load_checkpoints"
            ),
        },
    ),
    Row(
        ". Use engine='joblib', or 'auto', which stacks",
        "retrained(model, engine='stacked')",
        {
            "engine='stacked' cannot": "# engine='stacked'",
            "Use engine='joblib'": "retrained(model, engine='joblib')",
            "or 'auto'": "retrained(model, engine='auto')",
        },
    ),
    Row(
        "cache_dir: with random_state=None every call draws other subsets",
        "retrained(model, cache_dir='.')",
        {
            "Set random_state to an int": (
                "retrained(model, cache_dir=tempfile.mkdtemp(), random_state=0)"
            ),
        },
    ),
    Row(
        ", which cannot be retrained because",
        "retrain_on_subsets(module, Z, y, Z[:9], y[:9], n_subsets=4)",
        {
            "pass retrain=function(X_subset, y_subset, seed) -> fitted model": (
                "function = lambda X_subset, y_subset, seed: as_task(module, "
                "loss=nn.CrossEntropyLoss()); retrain_on_subsets(module_task, Z, y, Z[:9], "
                "y[:9], n_subsets=4, retrain=function)  # retrain=function("
            ),
        },
    ),
    Row(
        "model: the module was given to the net",
        ("n = short_net(Net()).fit(Z, y); retrain_on_subsets(n, Z, y, Z[:9], y[:9], n_subsets=4)"),
        {
            "Give the class (module=Net, module__width=32)": (
                "n = short_net(module=Wide, module__width=32).fit(Z, y); "
                "retrain_on_subsets(n, Z, y, Z[:9], y[:9], n_subsets=4)"
            ),
            "pass retrain=function(X_subset, y_subset, seed)": (
                "function = lambda X_subset, y_subset, seed: skorch_net().fit(X_subset, "
                "y_subset); retrained(net, retrain=function)  # retrain=function("
            ),
        },
    ),
    Row(
        ", which does not exist during retraining,",
        (
            "n = skorch_net(train_split=ValidSplit(5), "
            "callbacks=[EarlyStopping()]).fit(Z, y); retrain_on_subsets(n, Z, y, "
            "Z[:9], y[:9], n_subsets=4)"
        ),
        {
            "model.set_params(callbacks=None, max_epochs=": (
                "model = skorch_net(train_split=ValidSplit(5), "
                "callbacks=[EarlyStopping()]).fit(Z, y); model.set_params(callbacks=None, "
                "max_epochs=3); retrain_on_subsets(model, Z, y, Z[:9], y[:9], n_subsets=4)"
            ),
        },
    ),
    Row(
        "By default, the fitted steps are kept",
        (
            "retrain_on_subsets(make_pipeline(StandardScaler(), LogisticRegression()), "
            "X, y, X[:9], y[:9], n_subsets=4)"
        ),
        {
            "Give a fitted Pipeline": (
                "retrain_on_subsets(make_pipeline(StandardScaler(), "
                "LogisticRegression()).fit(X, y), X, y, X[:9], y[:9], n_subsets=4)"
            ),
            "retrain_on_subsets(..., refit_transformers=True)": (
                "retrain_on_subsets(make_pipeline(StandardScaler(), LogisticRegression()), "
                "X, y, X[:9], y[:9], n_subsets=4, refit_transformers=True)"
            ),
        },
    ),
    Row(
        "engine: 'stacked' cannot run your own training",
        "retrained(net, engine='stacked', retrain=lambda X, y, s: net)",
        {
            "use engine='joblib' or 'auto' with retrain=": (
                "[retrained(net, engine=engine, retrain=lambda X, y, s: net) for engine in "
                "('joblib', 'auto')]  # engine='joblib'"
            ),
        },
    ),
    Row(
        "engine: 'stacked' keeps the Pipeline's fitted transformers; use",
        "retrained(net, engine='stacked', refit_transformers=True)",
        {
            "use engine='joblib' or 'auto' with refit_transformers=True": (
                "[retrained(net, engine=engine, refit_transformers=True) for engine in "
                "('joblib', 'auto')]  # engine='joblib'"
            ),
        },
    ),
    Row(
        ", which is in y_query, so the model",
        (
            "retrain_on_subsets(model, X, y, X[:50:9], y[:50:9], masks=np.repeat([y == "
            "0, y != 1, y != 2], 2, 0))"
        ),
        {
            "Use a larger subset_fraction": (
                "retrain_on_subsets(model, X, y, X[:50:9], y[:50:9], n_subsets=4, "
                "subset_fraction=0.8, random_state=0)"
            ),
            "masks with every class": (
                "retrain_on_subsets(model, X, y, X[:50:9], y[:50:9], masks=np.arange(50) % "
                "5 != np.arange(4)[:, None])"
            ),
        },
    ),
    Row(
        "noise_variance needs at least two repeats, but",
        "retrained(model).noise_variance()",
        {
            "retrain with n_repeats=2": "retrained(model, n_repeats=2).noise_variance()",
        },
    ),
    Row(
        "optimizer_state='own': there is no fitted optimizer to",
        (
            "FurtherTraining(training=Training('sgd', 0.1, optimizer_state='own'), "
            "**once).fit(*learned).score(*two)"
        ),
        {
            "Use optimizer_state='fresh'": (
                "FurtherTraining(training=Training('sgd', 0.1, optimizer_state='fresh'), "
                "**once).fit(*learned).score(*two)"
            ),
        },
    ),
    Row(
        ". Use engine='auto', which trains one run",
        (
            "FurtherTraining('sgd', 0.1, epochs=1, engine='stacked', "
            "**once).fit(as_task(Item(), loss=nn.CrossEntropyLoss()), Z, y).score(*two)"
        ),
        {
            "engine='stacked' cannot": "# engine='stacked'",
            "Use engine='auto'": (
                "FurtherTraining('sgd', 0.1, epochs=1, engine='auto', "
                "**once).fit(as_task(Item(), loss=nn.CrossEntropyLoss()), Z, y).score(*two)"
            ),
        },
    ),
    Row(
        ". Use engine='loop' to do this",
        (
            "FurtherTraining('sgd', 0.1, epochs=1, **once).fit(as_task(Item(), "
            "loss=nn.CrossEntropyLoss()), Z, y).score(*two)"
        ),
        {
            "Use engine='loop' to do this without a warning": (
                "FurtherTraining('sgd', 0.1, epochs=1, engine='loop', "
                "**once).fit(as_task(Item(), loss=nn.CrossEntropyLoss()), Z, y).score(*two)"
            ),
        },
    ),
    Row(
        "optimizer: it does not have the trainable",
        (
            "m = Net(); o = torch.optim.SGD(m.layers[0].parameters(), lr=0.1)\nwith "
            "record_trajectory(m, o, n_rows=50): pass"
        ),
        {
            "Freeze them (requires_grad=False)": (
                "m = Net(); m.layers[2].requires_grad_(False); o = "
                "torch.optim.SGD(m.layers[0].parameters(), lr=0.1)\nassert not "
                "m.layers[2].weight.requires_grad  # requires_grad=False\ntry:\n    with "
                "record_trajectory(m, o, n_rows=50): pass\nexcept ValueError as error: "
                "assert 'took no step' in str(error)"
            ),
            "give them to the optimizer": "recorded()",
        },
    ),
    Row(
        "of the optimizer came without rows. Call",
        (
            "m = Net(); o = torch.optim.SGD(m.parameters(), lr=0.1)\nwith "
            "record_trajectory(m, o, n_rows=50): m(torch.zeros(1, "
            "4)).sum().backward(); o.step()"
        ),
        {
            "Call rows(indices) of the recorder before the forward pass": (
                "m = Net(); o = torch.optim.SGD(m.parameters(), lr=0.1); indices = "
                "[0]\nwith record_trajectory(m, o, n_rows=50) as recorder: "
                "recorder.rows(indices); m(torch.zeros(1, 4)).sum().backward(); o.step()"
            ),
        },
    ),
    Row(
        "does not take three arguments.",
        "retrained(GaussianNB(), output=lambda outputs, targets: outputs[:, 0])",
        {
            "output=lambda model, X, y: model.predict(X)": (
                "retrained(GaussianNB(), output=lambda model, X, y: model.predict(X))"
            ),
        },
    ),
    Row(
        "does not take two arguments.",
        "retrained(model, output=lambda model, X, y: model.predict(X))",
        {
            "output(outputs, targets) -> (n,) on its natural outputs": (
                "output = lambda outputs, targets: outputs[:, 0]; retrained(model, output=output)"
                "  # output(outputs, targets)"
            ),
        },
    ),
    Row(
        " needs the targets of the queries. Give",
        "retrain_on_subsets(RandomForestRegressor(3), X, t, X[:9], n_subsets=2)",
        {
            "Give y_query": (
                "retrain_on_subsets(RandomForestRegressor(3), X, t, X[:9], y_query=t[:9], "
                "n_subsets=2)"
            ),
            "take output='prediction'": (
                "retrain_on_subsets(RandomForestRegressor(3), X, t, X[:9], n_subsets=2, "
                "output='prediction')"
            ),
        },
    ),
    Row(
        "are of pairs of classes",
        "retrained(SVC(decision_function_shape='ovo'), output='margin')",
        {
            "Set decision_function_shape='ovr'": (
                "retrained(SVC(decision_function_shape='ovr'), output='margin')"
            ),
        },
    ),
    Row(
        "masks: a subset has no row of the classes",
        (
            "retrain_on_subsets(SVC(), X, b, X[:9], b[:9], masks=(b == 1)[None], "
            "output=lambda model, X, y: model.decision_function(X))"
        ),
        {
            "Use a larger subset_fraction": (
                "retrain_on_subsets(SVC(), X, b, X[:9], b[:9], n_subsets=2, "
                "subset_fraction=0.9, output=lambda model, X, y: model.decision_function(X))"
            ),
        },
    ),
    Row(
        " is for one label for each example, but y has shape",
        "retrain_on_subsets(RandomForestClassifier(3), X, many, X[:9], many[:9], n_subsets=2)",
        {
            "Pass a function output(model, X, y) -> (n,)": (
                "def output(model, X, y): return model.predict(X)[:, 0]\n"
                "retrain_on_subsets(RandomForestClassifier(3), X, many, X[:9], many[:9], "
                "n_subsets=2, output=output)"
            ),
        },
    ),
]
