"""Batches lead each kind of fitted model to its own predictions."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from skorch import NeuralNetClassifier
from torch import nn

from influencekit.data import make_examples
from influencekit.models import as_task

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3))
Y = (X @ [1.0, -2.0, 0.5] > 0).astype(int)
FRAME = pd.DataFrame(X, columns=["a", "b", "c"])
TEXTS = [("good fine " if label else "bad dull ") + str(i % 4) for i, label in enumerate(Y)]


class Matrix(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, X):
        return self.linear(X)


class ByColumn(Matrix):
    def forward(self, a, b, c):
        return self.linear(torch.cat([a, b, c], dim=1))


def net(module):
    torch.manual_seed(0)
    return NeuralNetClassifier(
        module, criterion=nn.CrossEntropyLoss, train_split=None, max_epochs=2, verbose=0
    )


def mixed():
    frame = FRAME.assign(town=np.array(["x", "y"])[Y])
    frame.loc[3, "a"] = np.nan
    return frame


CASES = {
    "integers": (lambda: LogisticRegression(), np.round(9 * X).astype(int)),
    "flags": (lambda: LogisticRegression(), X > 0),
    "named columns": (lambda: LogisticRegression(), FRAME),
    "texts": (lambda: make_pipeline(TfidfVectorizer(), LogisticRegression()), TEXTS),
    "series of texts": (
        lambda: make_pipeline(TfidfVectorizer(), LogisticRegression()),
        pd.Series(TEXTS),
    ),
    "mixed frame": (
        lambda: make_pipeline(
            make_column_transformer(
                (SimpleImputer(), ["a", "b", "c"]), (OneHotEncoder(), ["town"])
            ),
            LogisticRegression(),
        ),
        mixed(),
    ),
    "net": (lambda: net(Matrix), X.astype(np.float32)),
    "net in a pipeline": (
        lambda: make_pipeline(StandardScaler(), net(Matrix)),
        X.astype(np.float32),
    ),
    "net fed by columns": (lambda: net(ByColumn), FRAME.astype(np.float32)),
    "net behind a frame": (
        lambda: make_pipeline(StandardScaler().set_output(transform="pandas"), net(ByColumn)),
        FRAME.astype(np.float32),
    ),
}


# skorch hands columns of a frame, which pandas keeps from being written to, to torch as they are
@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable:UserWarning")
@pytest.mark.parametrize("case", CASES)
def test_outputs_are_the_classifiers_own(case):
    make, data = CASES[case]
    model = make().fit(data, Y)
    task = as_task(model)
    examples = make_examples(task, data, Y)
    outputs = torch.cat([task.forward(b.inputs) for b in examples.batches(7)]).detach()
    expected = model.predict_proba(data)
    np.testing.assert_allclose(task.loss.predict_proba(outputs), expected, atol=1e-6)


def test_outputs_are_the_regressors_own():
    values = X @ RNG.normal(size=(3, 2))
    model = make_pipeline(StandardScaler(), Ridge()).fit(X, values)
    task = as_task(model)
    (batch,) = make_examples(task, X, values).batches(40)
    np.testing.assert_allclose(task.forward(batch.inputs).detach(), model.predict(X), atol=1e-12)
    np.testing.assert_array_equal(batch.targets, values)
