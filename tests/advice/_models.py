"""Advice on models and losses."""

from tests.advice._row import Row

__all__ = ["ROWS"]

ROWS = [
    Row(
        "have an effect on. Say which: ",
        "GradDot().fit(as_task(WithProbabilities(), loss=nn.CrossEntropyLoss()), Z, y)",
        {
            "loss=lambda outputs, y: F.cross_entropy(outputs[0], y)": (
                "GradDot().fit(as_task(WithProbabilities(), "
                "loss=lambda outputs, y: F.cross_entropy(outputs[0], y)), Z, y)"
            ),
        },
    ),
    Row(
        "does not know what it was trained",
        "as_task(nn.Linear(4, 3))",
        {
            "as_task(model, loss=nn.CrossEntropyLoss())": (
                "model = nn.Linear(4, 3); as_task(model, loss=nn.CrossEntropyLoss())"
            ),
        },
    ),
    Row(
        ", which is not a model that",
        "as_task(SVC().fit(X, y))",
        {
            "Register your own with @as_task.register": (
                "as_task.register(NotKnown)(lambda model, **_: module_task); as_task(NotKnown())"
            ),
            "linear or generalized linear model": (
                "[as_task(kind().fit(X, y)) for kind in (LogisticRegression, Ridge, "
                "LinearRegression)]; as_task(SGDClassifier(loss='log_loss').fit(X, y))"
            ),
            "KernelRidge": (
                "from sklearn.kernel_ridge import KernelRidge; as_task(KernelRidge().fit(X, y))"
            ),
        },
    ),
    Row(
        "labels for each example, so there is no single margin",
        (
            "GradDot(output='margin').fit(MLPClassifier(max_iter=9).fit(X, many), X, "
            "many).score(X, many)"
        ),
        {
            "Use output='neg_loss'": (
                "GradDot(output='neg_loss').fit(MLPClassifier(max_iter=9).fit(X, many), X, "
                "many).score(X, many)"
            ),
            "output=lambda outputs, targets: outputs[:, 0]": (
                "GradDot(output=lambda outputs, targets: outputs[:, "
                "0]).fit(MLPClassifier(max_iter=9).fit(X, many), X, many).score(X, many)"
            ),
        },
    ),
    Row(
        ". Accepted is a loss that is",
        (
            "w = torch.tensor([1.0, 2.0, 3.0]); GradDot().fit(as_task(module, "
            "loss=lambda z, t: F.cross_entropy(z, t, w)), Z[::7], "
            "y[::7]).score(Z[::7], y[::7])"
        ),
        {
            "nn.CrossEntropyLoss(weight=...)": (
                "w = torch.tensor([1.0, 2.0, 3.0]); GradDot().fit(as_task(module, "
                "loss=nn.CrossEntropyLoss(weight=w)), Z, y)"
            ),
            "else return one loss for each example": (
                "w = torch.tensor([1.0, 2.0, 3.0]); GradDot().fit(as_task(module, "
                "loss=lambda z, t: F.cross_entropy(z, t, w, reduction='none')), Z, y)"
            ),
        },
    ),
    Row(
        "(positive=True) is solved under constraints; the",
        "as_task(Ridge(positive=True).fit(X, t))",
        {
            "Fit it with positive=False": "as_task(Ridge(positive=False).fit(X, t))",
        },
    ),
    Row(
        ("model: LogisticRegressionCV(refit=False) averages the coefficients of its"),
        "as_task(LogisticRegressionCV(refit=False).fit(X, y))",
        {
            "Fit it with refit=True": "as_task(LogisticRegressionCV(refit=True).fit(X, y))",
            "LogisticRegressionCV(refit=False)": "LogisticRegressionCV(refit=False)",
        },
    ),
    Row(
        "(refit=False) does not keep a fitted model. Fit it",
        "as_task(GridSearchCV(Ridge(), {'alpha': [1]}, refit=False).fit(X, t))",
        {
            "Fit it with refit=True": (
                "as_task(GridSearchCV(Ridge(), {'alpha': [1]}, refit=True).fit(X, t))"
            ),
            "give the model that you fitted from best_params_": (
                "search = GridSearchCV(Ridge(), {'alpha': [1]}, refit=False).fit(X, t); "
                "as_task(Ridge(**search.best_params_).fit(X, t))"
            ),
        },
    ),
    Row(
        "of the Pipeline is not fitted. Give",
        "as_task(make_pipeline(StandardScaler(), LogisticRegression()))",
        {
            "call its 'fit' with the training data first": (
                "as_task(make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y))  # 'fit'"
            ),
        },
    ),
    Row(
        "with warm_start=True and early_stopping=True held out different rows",
        (
            "m = MLPClassifier(max_iter=9, warm_start=True, early_stopping=True, "
            "random_state=0).fit(X, y); GradDot().fit(m.fit(X, y), X, y)"
        ),
        {
            "Fit it with warm_start=False": (
                "m = MLPClassifier(max_iter=9, warm_start=False, early_stopping=True, "
                "random_state=0).fit(X, y); GradDot().fit(m, X, y)"
            ),
        },
    ),
    Row(
        "has no trainable parameter (requires_grad=True), so no",
        ("as_task(nn.Linear(4, 3).requires_grad_(False), loss=nn.CrossEntropyLoss())"),
        {
            "layer.requires_grad_(True)": (
                "layer = nn.Linear(4, 3).requires_grad_(False); "
                "layer.requires_grad_(True); as_task(layer, loss=nn.CrossEntropyLoss())"
            ),
        },
    ),
    Row(
        "without running statistics, so each output depends",
        (
            "GradDot().fit(as_task(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, "
            "track_running_stats=False)), loss=nn.CrossEntropyLoss()), Z, y)"
        ),
        {
            "Train it with track_running_stats=True": (
                "GradDot().fit(as_task(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, "
                "track_running_stats=True)), loss=nn.CrossEntropyLoss()), Z, y)"
            ),
            "or use GroupNorm": (
                "GradDot().fit(as_task(nn.Sequential(nn.Linear(4, 4), nn.GroupNorm(2, 4)), "
                "loss=nn.CrossEntropyLoss()), Z, y)"
            ),
        },
    ),
    Row(
        ", but influencekit does not know whether",
        ("as_task(skorch_net(optimizer=Odd, optimizer__weight_decay=0.1).fit(Z, y))"),
        {
            "dataclasses.replace(task, penalty={parameter_name: strength})": (
                "task, parameter_name, strength = as_task(net), 'a.weight', "
                "torch.tensor(0.1); GradDot().fit(dataclasses.replace(task, "
                "penalty={parameter_name: strength}), Z, y)"
            ),
        },
    ),
    Row(
        "; use 'neg_loss', 'prediction' or a callable.",
        "GradDot(output='margin').fit(ridge, X, t).score(X, t)",
        {
            "use 'neg_loss', 'prediction' or a callable": (
                "[GradDot(output=o).fit(ridge, X, t).score(X, t) for o in ('neg_loss', "
                "'prediction', lambda z, t: z[:, 0])]"
            ),
        },
    ),
    Row(
        "output='neg_loss' needs y: without y, the model's",
        "GradDot(output='neg_loss').fit(ridge, X, t).score(X)",
        {
            "Pass y": "GradDot(output='neg_loss').fit(ridge, X, t).score(X, y=t)",
            "use output='prediction'": "GradDot(output='prediction').fit(ridge, X, t).score(X)",
        },
    ),
    Row(
        "outputs. Pass a callable, for instance output=lambda",
        ("GradDot(output='prediction').fit(Ridge().fit(X, np.c_[t, t]), X, np.c_[t, t]).score(X)"),
        {
            "output=lambda outputs, targets: outputs[:, 0]": (
                "GradDot(output=lambda outputs, targets: outputs[:, 0]).fit(Ridge().fit(X, "
                "np.c_[t, t]), X, np.c_[t, t]).score(X)"
            ),
        },
    ),
    Row(
        "held out random rows for validation and",
        ("GradDot().fit(MLPClassifier(max_iter=9, early_stopping=True).fit(X, y), X, y)"),
        {
            "Fit again with MLPClassifier(..., random_state=0)": (
                "GradDot().fit(MLPClassifier(max_iter=9, early_stopping=True, "
                "random_state=0).fit(X, y), X, y)"
            ),
            "say so with model.set_params(early_stopping=False)": (
                "model = MLPClassifier(max_iter=9, early_stopping=True).fit(X, y); "
                "model.set_params(early_stopping=False); GradDot().fit(model, X, y)"
            ),
        },
    ),
    Row(
        "), so its training rows are not known",
        "GradDot().fit(skorch_net(train_split=broken_split).fit(Z, y), Z, y)",
        {
            "say so with model.set_params(train_split=None)": (
                "model = skorch_net(train_split=broken_split).fit(Z, y); "
                "model.set_params(train_split=None); GradDot().fit(model, Z, y)"
            ),
        },
    ),
    Row(
        "; SequenceCrossEntropy takes logits (n_examples, n_tokens, n_classes)",
        "SequenceCrossEntropy()(classes_second(words), words)",
        {
            "lambda x: module(x).transpose(1, 2)": (
                "module = classes_second; GradDot().fit(as_task(Wrapped(lambda x: "
                "module(x).transpose(1, 2), module), loss=SequenceCrossEntropy()), words, "
                "words)"
            ),
        },
    ),
    Row(
        "model: its criterion sums weighted losses over",
        (
            "as_task(skorch_net(criterion__weight=torch.ones(3) + torch.arange(3), "
            "criterion__reduction='sum', optimizer__weight_decay=0.1).fit(Z, y))"
        ),
        {
            "Train with reduction='mean'": (
                "as_task(skorch_net(criterion__weight=torch.ones(3), "
                "criterion__reduction='mean', optimizer__weight_decay=0.1).fit(Z, y))"
            ),
            "without weight_decay": (
                "as_task(skorch_net(criterion__weight=torch.ones(3), "
                "criterion__reduction='sum').fit(Z, y))  # no weight_decay"
            ),
            "with batch_size=-1": (
                "as_task(skorch_net(criterion__weight=torch.ones(3), "
                "criterion__reduction='sum', optimizer__weight_decay=0.1, "
                "batch_size=-1).fit(Z, y))"
            ),
        },
    ),
    Row(
        "(trim_for_prediction removes it), so its objective is",
        "net = skorch_net().fit(Z, y); net.trim_for_prediction(); as_task(net)",
        {
            "as_task(net.module_, loss=...)": (
                "net = skorch_net().fit(Z, y); net.trim_for_prediction(); "
                "as_task(net.module_, loss=nn.CrossEntropyLoss())"
            ),
        },
    ),
    Row(
        "is derived from NLLLoss. Give the loss",
        "as_task(short_net(Net, criterion=OwnNLL).fit(Z, y))",
        {
            "as_task(net, loss=...)": (
                "net = short_net(Net, criterion=OwnNLL).fit(Z, y); as_task(net, "
                "loss=nn.CrossEntropyLoss())"
            ),
        },
    ),
    Row(
        ", but the module's probabilities",
        "GradDot().fit(short_net(Net, criterion=nn.NLLLoss).fit(Z, y), Z, y)",
        {
            "End the module with": (
                "GradDot().fit(short_net(SoftNet, criterion=nn.NLLLoss).fit(Z, y), Z, y)"
            ),
            "train it with nn.CrossEntropyLoss on logits": (
                "GradDot().fit(skorch_net(loss=nn.CrossEntropyLoss).fit(Z, y), Z, y)"
            ),
        },
    ),
]
