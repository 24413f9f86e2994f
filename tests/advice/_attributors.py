"""Advice of attributors and of recorded runs."""

from tests.advice._row import Row

__all__ = ["ROWS"]

_LONE = "lone = np.c_[X, np.arange(len(X)) == 5]; m = LinearRegression().fit(lone, t); "

ROWS = [
    Row(
        "are not sums over the tokens of a text",
        (
            "tagger = as_task(nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 9)), "
            "loss=SequenceCrossEntropy()); ids = torch.arange(20).reshape(4, 5) % 9; "
            "GradCos().fit(tagger, ids, ids).score(ids, ids, by='token')"
        ),
        {
            "InfluenceFunction()": (
                "tagger = as_task(nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 9)), "
                "loss=SequenceCrossEntropy()); ids = torch.arange(20).reshape(4, 5) % 9; "
                "InfluenceFunction().fit(tagger, ids, ids).score(ids, ids, by='token')"
            ),
            "GradDot()": (
                "tagger = as_task(nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 9)), "
                "loss=SequenceCrossEntropy()); ids = torch.arange(20).reshape(4, 5) % 9; "
                "GradDot().fit(tagger, ids, ids).score(ids, ids, by='token')"
            ),
            "by='example'": (
                "tagger = as_task(nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 9)), "
                "loss=SequenceCrossEntropy()); ids = torch.arange(20).reshape(4, 5) % 9; "
                "GradCos().fit(tagger, ids, ids).score(ids, ids, by='example')"
            ),
        },
    ),
    Row(
        "is not a sum over tokens; accepted are",
        "GradDot().fit(module_task, X, y).score(X[:2], y[:2], by='token')",
        {
            "Use by='example'": (
                "GradDot().fit(module_task, X, y).score(X[:2], y[:2], by='example')"
            ),
        },
    ),
    Row(
        "of the training rows have a leverage above",
        _LONE + "InfluenceFunction(output='prediction').fit(m, lone, t).score(lone)",
        {
            "removal_order='leverage' or 'newton', or predict_without": (
                _LONE + "a = InfluenceFunction(output='prediction', removal_order='leverage');"
                "a.fit(m, lone, t).score(lone);"
                "a.set_params(removal_order='newton').fit(m, lone, t).score(lone);"
                "a.predict_without([5], lone)"
            ),
        },
    ),
    Row(
        "is not a linear model with a smooth convex objective",
        "InfluenceFunction(removal_order='newton', damping=1.0).fit(*learned)",
        {
            "fit LogisticRegression": (
                "InfluenceFunction(removal_order='newton')"
                ".fit(LogisticRegression(max_iter=1000).fit(X, y), X, y)"
            ),
        },
    ),
    Row(
        "coefficients; the Hessian of at",
        (
            "Y = np.random.default_rng(0).normal(size=(5, 6200)); "
            "m = Ridge(1e3).fit(Y, t[:5]); InfluenceFunction('ggn', removal_order='newton', "
            "damping=0, output='prediction').fit(m, Y, t[:5]).score(Y)"
        ),
        {
            "Use removal_order='first'": (
                "Y = np.random.default_rng(0).normal(size=(5, 6200)); "
                "m = Ridge(1e3).fit(Y, t[:5]); InfluenceFunction('ggn', removal_order='first', "
                "damping=1.0, output='prediction').fit(m, Y, t[:5]).score(Y)"
            ),
        },
    ),
    Row(
        "model(s), is not known. Accepted are several",
        "InfluenceFunction(damping=1.0).fit(net, Z, y).score(*two, return_std=True)",
        {
            "several nets trained from other seeds, fit([net, net_2, net_3], X, y)": (
                "net_2, net_3 = skorch_net().fit(Z, y), skorch_net().fit(Z, y); "
                "a = InfluenceFunction(damping=1.0).fit([net, net_2, net_3], Z, y); "
                "a.score(*two, return_std=True)"
            ),
            "one linear model with InfluenceFunction()": (
                "InfluenceFunction(output='prediction').fit(ridge, X, t).score(X, return_std=True)"
            ),
        },
    ),
    Row(
        "intervals are columns of the table. Give",
        "InfluenceFunction(output='prediction').fit(ridge, X, t).top_k(X, k=2, interval=0.9)",
        {
            "Give as_frame=True": (
                "InfluenceFunction(output='prediction').fit(ridge, X, t)"
                ".top_k(X, k=2, interval=0.9, as_frame=True)"
            ),
        },
    ),
    Row(
        "diverge along the largest curvature",
        (
            "InfluenceFunction(at='predicted', damping=0.1, further_training=FurtherTraining('sgd',"
            " lr=1e9, n_steps=4, **once)).fit(*learned)"
        ),
        {
            "Give a smaller learning rate": (
                "InfluenceFunction(at='predicted', damping=0.1, "
                "further_training=FurtherTraining('sgd', lr=1e-2, n_steps=4, **once))"
                ".fit(*learned)"
            ),
            "at='endpoint', which trains": (
                "InfluenceFunction(at='endpoint', damping=0.1, "
                "further_training=FurtherTraining('sgd', lr=1e-2, n_steps=4, **once))"
                ".fit(*learned)"
            ),
        },
    ),
    Row(
        "().fit(model, X_train, y_train). An attributor cannot be",
        "GradDot().fit(X, y)",
        {
            "GradDot().fit(model, X_train, y_train)": (
                "X_train, y_train = X, y; GradDot().fit(model, X_train, y_train)"
            ),
            "use SurrogateLambdaSearchCV or LDSSearch": (
                "SurrogateLambdaSearchCV(InfluenceFunction()).fit(model, X, y); "
                "LDSSearch(InfluenceFunction(), **quick).fit(model, X, y, **asked)"
            ),
            ("fit the pipeline and give it as the model. GridSearchCV cannot search it either"): (
                "pipe = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y); "
                "GradDot().fit(pipe, X, y)  # no GridSearchCV"
            ),
        },
    ),
    Row(
        "scores are NaN or infinite: the gradient",
        ("GradDot(output=lambda z, y: torch.sqrt(z[:, 0] - z[:, 0])).fit(model, X, y).score(X, y)"),
        {
            "Check output=": "GradDot(output=lambda z, y: z[:, 0]).fit(model, X, y).score(X, y)",
        },
    ),
    Row(
        "rows given as training data; it held",
        "GradDot().fit(skorch_net(train_split=ValidSplit(5)).fit(Z, y), Z, y)",
        {
            "refit the model with train_split=None": (
                "GradDot().fit(skorch_net(train_split=None).fit(Z, y), Z, y)"
            ),
        },
    ),
    Row(
        "rows given as training data; it held",
        (
            "GradDot().fit(MLPClassifier(early_stopping=True, max_iter=20, "
            "random_state=0).fit(X, y), X, y)"
        ),
        {
            "early_stopping=False": (
                "GradDot().fit(MLPClassifier(early_stopping=False, max_iter=20, "
                "random_state=0).fit(X, y), X, y)"
            ),
        },
    ),
    Row(
        "cache_dir: with random_state=None every fit draws other",
        (
            "FurtherTraining('sgd', 0.1, epochs=2, n_repeats=1, "
            "cache_dir='.').fit(module_task, X, y).score(X[:2], y[:2])"
        ),
        {
            "Set random_state to an int": (
                "FurtherTraining('sgd', 0.1, epochs=2, n_repeats=1, random_state=0, "
                "cache_dir=tempfile.mkdtemp()).fit(*learned).score(*two)"
            ),
        },
    ),
    Row(
        "model: got several models, for which only score",
        (
            "FurtherTraining(random_state=0, n_repeats=1, epochs=1).fit([net, net], Z, "
            "y).measure(Z[:2], y[:2])"
        ),
        {
            "fit FurtherTraining on each": (
                "[FurtherTraining(random_state=0, n_repeats=1, epochs=1, left_out=[0, "
                "1]).fit(one, Z, y).measure(Z[:2], y[:2]) for one in [net, net]]"
            ),
        },
    ),
    Row(
        ",). Use losses with reduction='none', and only",
        ("GradDot(output=lambda z, y: F.cross_entropy(z, y)).fit(*learned).score(Z, y)"),
        {
            "Use losses with reduction='none'": (
                "GradDot(output=lambda z, y: F.cross_entropy(z, y, "
                "reduction='none')).fit(*learned).score(Z, y)"
            ),
        },
    ),
    Row(
        "accepted is one of the two. Leave ",
        "FurtherTraining('sgd', training=Training('sgd', 0.1), n_repeats=1).fit(*learned)",
        {
            "say it in the training: Training(optimizer='sgd', ...)": (
                "FurtherTraining(training=Training(optimizer='sgd', lr=0.1), n_repeats=1)"
                ".fit(*learned)"
            ),
        },
    ),
    Row(
        "does not have a learning rate. State how long",
        "InfluenceFunction(at='endpoint').fit(*learned)",
        {
            "further_training=Training(lr=0.01, epochs=5)": (
                "InfluenceFunction(at='endpoint', "
                "further_training=Training(lr=0.01, epochs=5)).fit(*learned)"
            ),
        },
    ),
    Row(
        ", which scales each parameter's step by",
        (
            "InfluenceFunction(at='predicted', "
            "further_training=FurtherTraining('adam', 0.01, epochs=2)).fit(*learned)"
        ),
        {
            "Use optimizer='sgd'": (
                "InfluenceFunction(at='predicted', "
                "further_training=FurtherTraining(optimizer='sgd', lr=0.01, "
                "epochs=2)).fit(*learned)"
            ),
            "at='endpoint'": (
                "InfluenceFunction(at='endpoint', further_training=FurtherTraining('adam', "
                "0.01, epochs=2)).fit(*learned)"
            ),
        },
    ),
    Row(
        ", which scales each parameter's step by",
        (
            "InfluenceFunction(damping='matched', "
            "further_training=FurtherTraining('adam', 0.01, epochs=2)).fit(*learned)"
        ),
        {
            "give a damping": (
                "InfluenceFunction(damping=0.1, further_training=FurtherTraining('adam', "
                "0.01, epochs=2)).fit(*learned)"
            ),
            "choose it with SurrogateLambdaSearchCV": (
                "SurrogateLambdaSearchCV(InfluenceFunction(), random_state=0, "
                "criterion='cosine').fit(*learned)"
            ),
        },
    ),
    Row(
        "does not project gradients. Leave projection_dim at",
        "InfluenceFunction('kfac', projection_dim=5).fit(model, X, y)",
        {
            "Leave projection_dim at None": (
                "InfluenceFunction('kfac', projection_dim=None).fit(model, X, y)"
            ),
            "use a curvature that does: ['ggn', 'fisher', 'logra']": (
                "[InfluenceFunction(name, projection_dim=5, random_state=0).fit(model, X, "
                "y) for name in ['ggn', 'fisher', 'logra']]"
            ),
        },
    ),
    Row(
        "is a multiple of each layer's own",
        (
            "InfluenceFunction(DataInf(scaled=True), 'matched', "
            "further_training=FurtherTraining('sgd', 0.01, epochs=2)).fit(*learned)"
        ),
        {
            "Use scaled=False": (
                "InfluenceFunction(DataInf(scaled=False), 'matched', "
                "further_training=FurtherTraining('sgd', 0.01, epochs=2)).fit(*learned)"
            ),
        },
    ),
    Row(
        "with removal_order='finite', which removes an example",
        (
            "net = skorch_net(callbacks=[TrajectoryRecorder()]).fit(Z, y); "
            "SGDInfluence(horizon=1, removal_order='finite').fit(net, Z, y).score(*two)"
        ),
        {
            "Use horizon=None": (
                "net = skorch_net(callbacks=[TrajectoryRecorder()]).fit(Z, y); "
                "SGDInfluence(horizon=None, removal_order='finite').fit(net, Z, y).score(*two)"
            ),
            "removal_order='derivative'": (
                "net = skorch_net(callbacks=[TrajectoryRecorder()]).fit(Z, y); "
                "SGDInfluence(horizon=1, removal_order='derivative').fit(net, Z, y).score(*two)"
            ),
        },
    ),
    Row(
        "with removal_order='finite', which repeats the",
        (
            "net = skorch_net(callbacks=[TrajectoryRecorder()]).fit(Z, y); "
            "SGDInfluence(mask_size=2, removal_order='finite').fit(net, Z, y).score(*two)"
        ),
        {
            "Use mask_size=None": (
                "net = skorch_net(callbacks=[TrajectoryRecorder()]).fit(Z, y); "
                "SGDInfluence(mask_size=None, removal_order='finite').fit(net, Z, y).score(*two)"
            ),
            "removal_order='derivative'": (
                "net = skorch_net(callbacks=[TrajectoryRecorder()]).fit(Z, y); "
                "SGDInfluence(mask_size=2, removal_order='derivative').fit(net, Z, y).score(*two)"
            ),
        },
    ),
    Row(
        "step_scores: removal_order='finite' removes an example from",
        (
            "net = skorch_net(callbacks=[TrajectoryRecorder()]).fit(Z, y); "
            "SGDInfluence(removal_order='finite').fit(net, Z, y).step_scores(Z[:2], y[:2])"
        ),
        {
            "step_scores: removal_order='finite' removes": (
                "net = skorch_net(callbacks=[TrajectoryRecorder()]).fit(Z, y); "
                "SGDInfluence(removal_order='finite').fit(net, Z, y).score(*two)  # no step_scores"
            ),
            "Use removal_order='derivative'": (
                "net = skorch_net(callbacks=[TrajectoryRecorder()]).fit(Z, y); "
                "SGDInfluence(removal_order='derivative').fit(net, Z, y).step_scores(Z[:2], y[:2])"
            ),
        },
    ),
    Row(
        "does not have a recording of its training. Train",
        "SGDInfluence().fit(net, Z, y)",
        {
            "Train the skorch net with callbacks=[TrajectoryRecorder()]": (
                "net = skorch_net(callbacks=[TrajectoryRecorder()]).fit(Z, y); "
                "SGDInfluence().fit(net, Z, y)"
            ),
            (
                "or a torch module inside record_trajectory(...) as recorder, and give "
                "trajectory=recorder.trajectory_"
            ): (
                "task, recorder = recorded(); "
                "SGDInfluence(trajectory=recorder.trajectory_).fit(task, Z, y)  # "
                "record_trajectory("
            ),
        },
    ),
    Row(
        "does not have a recording of its training. Train",
        "trajectory_leave_one_out(net, Z, y, Z[:2], y[:2], left_out=[0])",
        {
            "Train the skorch net with callbacks=[TrajectoryRecorder()]": (
                "net = skorch_net(callbacks=[TrajectoryRecorder()]).fit(Z, y); "
                "trajectory_leave_one_out(net, Z, y, Z[:2], y[:2], left_out=[0])"
            ),
            (
                "or a torch module inside record_trajectory(...) as recorder, and give "
                "trajectory=recorder.trajectory_"
            ): (
                "task, recorder = recorded(); trajectory_leave_one_out(task, Z, y, Z[:2], "
                "y[:2], left_out=[0], trajectory=recorder.trajectory_)  # "
                "record_trajectory("
            ),
        },
    ),
    Row(
        "; AdamWInfluence takes runs of Adam,",
        (
            "net = skorch_net(optimizer=torch.optim.SGD, "
            "callbacks=[TrajectoryRecorder()]).fit(Z, y); AdamWInfluence().fit(net, Z, "
            "y)"
        ),
        {
            "Use SGDInfluence": (
                "net = skorch_net(optimizer=torch.optim.SGD, "
                "callbacks=[TrajectoryRecorder()]).fit(Z, y); SGDInfluence().fit(net, Z, y)"
            ),
        },
    ),
]
