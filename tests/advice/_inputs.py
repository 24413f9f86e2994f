"""Advice on targets, Datasets and models whose words tests/bad_inputs looks at, too."""

from tests.advice._row import Row

__all__ = ["ROWS"]

_ITEMS = "items = [(torch.ones(2 + i % 2), 0) for i in range(8)]; "
_BINARY = "task = as_task(nn.Linear(4, 1), loss=nn.BCEWithLogitsLoss()); "
_SHARES = "y = np.full((50, 3), 0.5); "
_LOADER = "loader = DataLoader(tensors, batch_size=7, drop_last=True); "
_PROBABILITIES = "GradDot().fit(as_task({module}, loss={loss}), Z, b[:, None].astype(np.float32))"
_SEARCH = "SurrogateLambdaSearchCV(InfluenceFunction(), cv={}).fit(model, X, y, {})"
_DECODER = "wide = nn.Sequential(nn.Embedding(120, 4), nn.Linear(4, 120)); "
_FIT = "as_task(wide, loss=SequenceCrossEntropy()), words, words)"

ROWS = [
    Row(
        "of the Dataset cannot be made. Its collate_fn",
        (
            _ITEMS + "GradDot().fit(as_task(nn.Linear(3, 2), nn.CrossEntropyLoss()), "
            "DataLoader(items, batch_size=4, collate_fn=lambda some: "
            "(torch.stack([x for x, _ in some]), torch.tensor([t for _, t in some]))))"
        ),
        {
            "Pad them, or give a DataLoader with a collate_fn": (
                _ITEMS + "collate_fn = lambda some: (nn.utils.rnn.pad_sequence([x for x, _ in some]"
                " + [torch.ones(3)], batch_first=True)[:-1], torch.tensor([t for _, t in some])); "
                "GradDot().fit(as_task(nn.Linear(3, 2), nn.CrossEntropyLoss()), "
                "DataLoader(items, batch_size=4, collate_fn=collate_fn))"
            ),
        },
    ),
    Row(
        "with drop_last=True, which leaves out the last",
        _LOADER + "GradDot().fit(module_task, loader)",
        {
            "give torch.utils.data.Subset(dataset, range(49))": (
                "dataset = tensors; GradDot().fit(module_task, "
                "torch.utils.data.Subset(dataset, range(49)))"
            ),
        },
    ),
    Row(
        "Encode them as for the model's training, or give as_task",
        _BINARY + "GradDot().fit(task, Z, 2.0 * b[:, None])",
        {
            "Encode them as for the model's training": (
                _BINARY + "GradDot().fit(task, Z, 1.0 * b[:, None])"
            ),
            "give as_task the loss that it was trained with": (
                "task = as_task(nn.Linear(4, 1), loss=nn.MSELoss()); "
                "GradDot().fit(task, Z, 2.0 * b[:, None])"
            ),
        },
    ),
    Row(
        "accepted are shares that are not negative and sum to 1",
        _SHARES + "GradDot().fit(module_task, Z, y)",
        {
            "Divide each row by its sum (y / y.sum(axis=1, keepdims=True))": (
                _SHARES + "GradDot().fit(module_task, Z, y / y.sum(axis=1, keepdims=True))"
            ),
            "give as_task the loss as a function of outputs and targets": (
                _SHARES + "task = as_task(module, loss=lambda outputs, targets: "
                "-(targets * outputs.log_softmax(1)).sum(1)); GradDot().fit(task, Z, y)"
            ),
        },
    ),
    Row(
        "accepted is one target for each example in a dense array",
        "y = sparse.csr_matrix(y[:, None]); GradDot().fit(model, X, y)",
        {
            "Use y.toarray()": (
                "y = sparse.csr_matrix(y[:, None]); GradDot().fit(model, X, y.toarray()[:, 0])"
            ),
        },
    ),
    Row(
        "its criterion is BCELoss, which needs probabilities",
        _PROBABILITIES.format(module="nn.Linear(4, 1)", loss="nn.BCELoss()"),
        {
            "End the module with nn.Sigmoid()": _PROBABILITIES.format(
                module="nn.Sequential(nn.Linear(4, 1), nn.Sigmoid())", loss="nn.BCELoss()"
            ),
            "train it with nn.BCEWithLogitsLoss on logits": _PROBABILITIES.format(
                module="nn.Linear(4, 1)", loss="nn.BCEWithLogitsLoss()"
            ),
        },
    ),
    Row(
        "Give cv a number of folds up to the number of queries",
        _SEARCH.format(12, "X_query=X[:9], y_query=y[:9]"),
        {
            "Give cv a number of folds": _SEARCH.format(9, "X_query=X[:9], y_query=y[:9]"),
            "more queries in X_query": _SEARCH.format(12, "X_query=X[:12], y_query=y[:12]"),
        },
    ),
    Row(
        "got both; accepted is one of the two. Leave ",
        (
            "training = Training(lr=0.1, optimizer_params={'lr': 0.1}); "
            "FurtherTraining(training=training).fit(module_task, Z, y).score(*two)"
        ),
        {
            "Leave lr out of optimizer_params": (
                "training = Training(lr=0.1, optimizer_params={}); "
                "FurtherTraining(training=training).fit(module_task, Z, y).score(*two)"
            ),
        },
    ),
    Row(
        "hidden entries, whose values would be used",
        "X = np.ma.masked_greater(X, 7); GradDot().fit(model, X, y)",
        {
            "Give X.filled(value)": (
                "value = 7.0; X = np.ma.masked_greater(X, 7); "
                "GradDot().fit(model, X.filled(value), y)"
            ),
            "leave those rows out": (
                "kept = X.max(axis=1) <= 7; GradDot().fit(model, X[kept], y[kept])"
            ),
        },
    ),
    Row(
        "overrides infer, so its objective may differ",
        (
            "net = OwnInfer(Net, criterion=nn.CrossEntropyLoss, max_epochs=1, train_split=None, "
            "verbose=0).fit(Z, y); GradDot().fit(net, Z, y)"
        ),
        {
            "as_task(net, loss=...)": (
                "net = OwnInfer(Net, criterion=nn.CrossEntropyLoss, max_epochs=1, "
                "train_split=None, verbose=0).fit(Z, y); "
                "GradDot().fit(as_task(net, loss=F.cross_entropy), Z, y)"
            ),
        },
    ),
    Row(
        "cross-entropy is accepted for ",
        "CrossEntropy()(torch.zeros(8, 40, 120), words)",
        {
            "loss=influencekit.models.SequenceCrossEntropy()": (
                "import influencekit.models; GradDot().fit(as_task("
                "lm, loss=influencekit.models.SequenceCrossEntropy()), words, words)"
            ),
            "loss=lambda outputs, targets: F.cross_entropy(outputs, targets, reduction='none')": (
                "GradDot().fit(as_task(classes_second, loss=lambda outputs, targets: "
                "F.cross_entropy(outputs, targets, reduction='none').flatten(1).mean(1)), "
                "words, words)"
            ),
        },
    ),
    Row(
        " and an output Hessian with ",
        "SequenceCrossEntropy().hessian_factor(torch.zeros(2, 40, 120), words[:2])",
        {
            "InfluenceFunction()": _DECODER + "InfluenceFunction().fit(" + _FIT,
            "InfluenceFunction('ekfac')": _DECODER + "InfluenceFunction('ekfac').fit(" + _FIT,
            "InfluenceFunction('kfac')": _DECODER + "InfluenceFunction('kfac').fit(" + _FIT,
            "InfluenceFunction('fisher')": _DECODER + "InfluenceFunction('fisher').fit(" + _FIT,
            "InfluenceFunction('datainf')": (
                _DECODER + "InfluenceFunction('datainf', 0.1).fit(" + _FIT
            ),
            "InfluenceFunction(LoGra(rows='fisher'))": (
                _DECODER + "InfluenceFunction(LoGra(rows='fisher')).fit(" + _FIT
            ),
        },
    ),
]
