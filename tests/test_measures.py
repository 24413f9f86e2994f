"""What studies measure, beside scikit-learn's own answers."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from influencekit import as_task

helpful = pytest.importorskip(
    "benchmarks.measures.helpful", reason="benchmarks/ is not part of this tree"
)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_right_answers_are_counted_for_one_logit_and_for_several(n_classes):
    """A binary linear model has one logit."""
    X, y = load_iris(return_X_y=True)
    X, y = X[y < n_classes][:, 1:2], y[y < n_classes]
    model = LogisticRegression().fit(X, y)
    task = as_task(model)
    targets = task.loss.encode_classes(torch.as_tensor(y), n_classes)
    found = helpful.is_right(task.forward(torch.as_tensor(X)), targets)
    np.testing.assert_array_equal(found.detach().numpy() == 1, model.predict(X) == y)
