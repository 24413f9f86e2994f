"""Advice on data, displays, metrics and reports."""

from tests.advice._row import Row

__all__ = ["ROWS"]

SPARSE = """
import scipy.sparse
class Sparse:
    def slices(self, start=0):
        yield from [(scipy.sparse.csr_array(X), y)][start:]
"""
ROWS = [
    Row(
        "; accepted is one row for each example. If each has",
        "GradDot().fit(as_task(nn.Linear(4, 2), loss=nn.MSELoss()), Z, np.zeros(100))",
        {
            "give y.reshape(50, 2)": (
                "y = np.zeros(100); "
                "GradDot().fit(as_task(nn.Linear(4, 2), loss=nn.MSELoss()), Z, y.reshape(50, 2))"
            ),
        },
    ),
    Row(
        "Different numbers of rows: ",
        (
            "words = np.arange(100) % 9; GradDot().fit("
            "as_task(nn.EmbeddingBag(9, 3), loss=nn.CrossEntropyLoss()), (words, words[:50]), y)"
        ),
        {
            "nn.EmbeddingBag(..., padding_idx=0)": (
                "words = (np.arange(100) % 9).reshape(50, 2); GradDot().fit(as_task("
                "nn.EmbeddingBag(9, 3, padding_idx=0), loss=nn.CrossEntropyLoss()), words, y)"
            ),
        },
    ),
    Row(
        "; accepted is (n_examples, n_features). Use np.reshape(",
        "GradDot().fit(model, X[:, 0], y)",
        {
            "np.reshape(X, (-1, 1)) for one feature": (
                "X = X[:, 0]; X = np.reshape(X, (-1, 1)); "
                "GradDot().fit(LogisticRegression().fit(X, y), X, y)"
            ),
        },
    ),
    Row(
        "; accepted is (n_examples, n_features). Use np.reshape(",
        "GradDot().fit(model, X, y).score(X[0], y[:1])",
        {
            "np.reshape(X, (1, -1)) for one example": (
                "a = GradDot().fit(model, X, y); X = X[0]; a.score(np.reshape(X, (1, -1)), y[:1])"
            ),
            "X.iloc[[i]] for row i of a DataFrame": (
                "a = GradDot().fit(LogisticRegression().fit(frame, y), frame, y); X, i = "
                "frame, 0; a.score(X.iloc[[i]], y[:1])  # DataFrame"
            ),
        },
    ),
    Row(
        ": got columns that differ from those",
        (
            "m = LogisticRegression().fit(frame, y); GradDot().fit(m, frame[['s', 'r', "
            "'q', 'p']], y)"
        ),
        {
            "X[model.feature_names_in_]": (
                "model, X = LogisticRegression().fit(frame, y), frame[['s', 'r', 'q', "
                "'p']]; GradDot().fit(model, X[model.feature_names_in_], y)"
            ),
        },
    ),
    Row(
        ": got the columns",
        "GradDot().fit(model, frame, y).score(frame[['s', 'r', 'q', 'p']])",
        {
            "X[X_train.columns]": (
                "X_train, X = frame, frame[['s', 'r', 'q', 'p']]; "
                "GradDot().fit(model, X_train, y).score(X[X_train.columns])"
            ),
        },
    ),
    Row(
        "; accepted are floats, integers and booleans. Encode text",
        "GradDot().fit(model, np.array([['a', 'b', 'c', 'd']] * 50), y)",
        {
            "a Pipeline whose first step is a OneHotEncoder": (
                "A = np.array([['a', 'b'], ['c', 'b']] * 25); "
                "GradDot().fit(make_pipeline(OneHotEncoder(), LogisticRegression()).fit(A, "
                "y), A, y)"
            ),
            "TfidfVectorizer": (
                "A = ['one two', 'two three'] * 25; "
                "GradDot().fit(make_pipeline(TfidfVectorizer(), "
                "LogisticRegression()).fit(A, y), A, y)"
            ),
        },
    ),
    Row(
        ": got a DataLoader with batch_size=None, whose",
        "GradDot().fit(module_task, DataLoader(tensors, batch_size=None))",
        {
            "Give batch_size": "GradDot().fit(module_task, DataLoader(tensors, batch_size=5))",
            "or pass arrays": "GradDot().fit(*learned)",
        },
    ),
    Row(
        "that does not yield every example exactly once;",
        (
            "GradDot().fit(module_task, DataLoader(tensors, "
            "sampler=WeightedRandomSampler([1.0] * 50, 50)))"
        ),
        {
            "DataLoader(torch.utils.data.Subset(dataset, rows))": (
                "dataset, rows = tensors, [0, 3, 5]; GradDot().fit(module_task, "
                "DataLoader(torch.utils.data.Subset(dataset, rows)))"
            ),
        },
    ),
    Row(
        ": got NaN or infinity; accepted are",
        "A = X.copy(); A[0, 0] = np.nan; GradDot().fit(model, A, y)",
        {
            "a Pipeline that starts with SimpleImputer": (
                "A = X.copy(); A[0, 0] = np.nan; "
                "GradDot().fit(make_pipeline(SimpleImputer(), classifier()).fit(A, y), A, "
                "y)"
            ),
        },
    ),
    Row(
        "are not numeric; accepted are floats, integers",
        "A = frame.assign(p='word'); GradDot().fit(module_task, A, y)",
        {
            "Pipeline that starts with a ColumnTransformer": (
                "from sklearn.compose import ColumnTransformer; A = "
                "frame.assign(p='word'); m = make_pipeline(ColumnTransformer([('p', "
                "OneHotEncoder(), ['p'])]), LogisticRegression()).fit(A, y); "
                "GradDot().fit(m, A, y)"
            ),
        },
    ),
    Row(
        "; accepted are dense Tensors and scipy's",
        "X = torch.from_numpy(Z).to_sparse(); GradDot().fit(module_task, X, y)",
        {
            "Use X.to_dense()": (
                "X = torch.from_numpy(Z).to_sparse(); GradDot().fit(module_task, X.to_dense(), y)"
            ),
        },
    ),
    Row(
        "; accepted for a classifier is one",
        "GradDot().fit(model, X, np.eye(3)[y])",
        {
            "y.argmax(axis=1) for one-hot rows": (
                "y = np.eye(3)[y]; GradDot().fit(model, X, y.argmax(axis=1))"
            ),
        },
    ),
    Row(
        "; accepted is one label for each row,",
        "NoisyLabelDetector(LogisticRegression()).fit(X, np.eye(3)[y])",
        {
            "Use y.argmax(axis=1) for one-hot rows": (
                "y = np.eye(3)[y]; NoisyLabelDetector(classifier()).fit(X, y.argmax(axis=1))"
            ),
        },
    ),
    Row(
        "); the model was fitted with numbers.",
        "GradDot().fit(module_task, Z, np.array(['a', 'b', 'c'])[y])",
        {
            "with the transform of the same LabelEncoder": (
                "names = np.array(['a', 'b', 'c'])[y]; encoder = "
                "LabelEncoder().fit(names); GradDot().fit(module_task, Z, "
                "encoder.transform(names))"
            ),
        },
    ),
    Row(
        "; accepted are integer class positions, shape",
        "GradDot().fit(module_task, Z, y.astype(float))",
        {
            "y.astype(int)": "y = y.astype(float); GradDot().fit(module_task, Z, y.astype(int))",
            "for a Tensor, y.long()": (
                "y = torch.from_numpy(y.astype(float)); GradDot().fit(module_task, Z, y.long())"
            ),
        },
    ),
    Row(
        "was trained with class weights, which torch",
        (
            "GradDot().fit(as_task(module, "
            "loss=nn.CrossEntropyLoss(weight=torch.ones(3) + torch.arange(3))), Z, "
            "np.eye(3, dtype='f')[y])"
        ),
        {
            (
                "give as_task the loss itself: loss=lambda outputs, targets: "
                "F.cross_entropy(outputs, targets, weight=w, reduction='none')"
            ): (
                "w = torch.ones(3); GradDot().fit(as_task(module, loss=lambda outputs, "
                "targets: F.cross_entropy(outputs, targets, weight=w, reduction='none')), "
                "Z, np.eye(3, dtype='f')[y])"
            ),
        },
    ),
    Row(
        "cannot be shown as images. Give `image_shape`,",
        ("TopExamplesDisplay.from_estimator(GradDot().fit(model, X, y), X, X[:2], kind='images')"),
        {
            "Give `image_shape`": (
                "TopExamplesDisplay.from_estimator(GradDot().fit(model, X, y), X, X[:2], "
                "image_shape=(2, 2), kind='images')"
            ),
            "kind='bars'": (
                "TopExamplesDisplay.from_estimator(GradDot().fit(model, X, y), X, X[:2], "
                "kind='bars')"
            ),
        },
    ),
    Row(
        "` is sparse; give something readable",
        (
            "TopExamplesDisplay.from_estimator(GradDot().fit(model, "
            "sparse.csr_matrix(X), y), sparse.csr_matrix(X), X[:2])"
        ),
        {
            "the raw texts, a DataFrame, or a dense array": (
                "s = GradDot().fit(model, X, y).score(X[:2]); "
                "[TopExamplesDisplay.from_predictions(s, A, A[:2], kind='bars') for A in "
                "(['text'] * 50, pd.DataFrame(X), X)]"
            ),
        },
    ),
    Row(
        "`outputs` has one repeat; a noise ceiling",
        "found = retrained(model); noise_ceiling(found.outputs)",
        {
            "Retrain with n_repeats=2": (
                "found = retrained(model, n_repeats=2); noise_ceiling(found.outputs)"
            ),
        },
    ),
    Row(
        ". Use fewer examples, or sample subsets",
        "enumerate_subsets(40, 20)",
        {
            "Use fewer examples": "enumerate_subsets(6, 3)  # fewer than max_subsets",
            ("sample subsets and use linear_datamodeling_score(..., correlation='pearson')"): (
                "rng = np.random.default_rng(0); "
                "linear_datamodeling_score(rng.normal(size=(6, 3)), rng.random((6, 10)) < "
                "0.5, rng.normal(size=(3, 10)), correlation='pearson')"
            ),
        },
    ),
    Row(
        ", which a page cannot show. Accepted",
        (
            "AttributionReport.from_attributor(GradDot().fit(*learned), Z[:3], y[:3], "
            "X_train=tensors)"
        ),
        {
            "examples=(train, test)": (
                "train, test = frame, frame[:3]; "
                "AttributionReport.from_attributor(GradDot().fit(*learned), Z[:3], y[:3], "
                "X_train=Z, examples=(train, test))"
            ),
        },
    ),
    Row(
        "); the model's loss takes numbers. Encode",
        ("GradDot().fit(module_task, Z, np.array(['a', 'b', 'c'], dtype=object)[y])"),
        {
            "Encode labels as for training, 0 to n_classes - 1": (
                "n_classes = 3; GradDot().fit(module_task, Z, "
                "LabelEncoder().fit_transform(np.arange(n_classes)[y]))"
            ),
        },
    ),
    Row(
        "In a report, arrays of more than",
        (
            "A = np.zeros((50, 2, 2, 2, 2)); "
            "AttributionReport.from_attributor(GradDot().fit(*learned), Z[:3], y[:3], "
            "X_train=Z, examples=(A, A[:3]))"
        ),
        {
            "give something readable as examples=(train, test)": (
                "train = np.zeros((50, 16)); test = train[:3]; "
                "AttributionReport.from_attributor(GradDot().fit(*learned), Z[:3], y[:3], "
                "X_train=Z, examples=(train, test))"
            ),
        },
    ),
    Row(
        "For anything else write a class with one method",
        "open_slices(X)",
        {
            "write a class with one method, slices(start=0), and give an object of it as X": (
                "class Own:\n"
                "    def slices(self, start=0):\n"
                "        yield from [(X[:20], y[:20]), (X[20:], y[20:])][start:]\n"
                "GradDot().fit(model, Own())"
            ),
        },
    ),
    Row(
        ": got slices of a ",
        (
            f"{SPARSE}AttributionReport.from_attributor(GradDot().fit(model, X, y), X[:3], y[:3], "
            "X_train=Sparse())"
        ),
        {
            "something readable as examples=(train, test)": (
                f"{SPARSE}train, test = X, X[:3]\n"
                "AttributionReport.from_attributor(GradDot().fit(model, X, y), X[:3], y[:3], "
                "X_train=Sparse(), examples=(train, test))"
            ),
        },
    ),
]
