"""Trained in other processes, by a script from standard input: its ``__main__`` has no file."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

START = """
import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback
from torch import nn
from influencekit import retrain_on_subsets
from influencekit.applications import NoisyLabelDetector, removal_curve

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, X):
        return self.layer(X)

class Watching(Callback):
    def on_train_end(self, net, **kwargs):
        self.net_ = net

rng = np.random.default_rng(0)
X = rng.normal(size=(80, 4)).astype(np.float32)
y = (X[:, 0] > 0).astype(int)
net = NeuralNetClassifier(
    Net, criterion=nn.CrossEntropyLoss, max_epochs=2, verbose=0, train_split=None,
    callbacks=[Watching()],
).fit(X, y)

def same(model, **options):
    found = [
        retrain_on_subsets(
            model, X, y, X[:5], y[:5], n_subsets=3, random_state=0, engine="joblib",
            n_jobs=n_jobs, **options,
        ).outputs
        for n_jobs in (1, 2)
    ]
    np.testing.assert_allclose(*found, atol=1e-6)

def same_labels(model):
    found = [
        NoisyLabelDetector(model, n_jobs=n_jobs, n_rounds=0, random_state=0).fit(X, y)
        for n_jobs in (1, 2)
    ]
    np.testing.assert_allclose(*[detector.label_scores_ for detector in found], atol=1e-5)

pipeline = make_pipeline(StandardScaler().set_output(transform="default"), net).fit(X, y)
"""

SCRIPT = """
same(net)
same(pipeline)
same(make_pipeline(StandardScaler(), net).fit(X, y), refit_transformers=True)
same(GridSearchCV(net, {'lr': [0.1]}, cv=2).fit(X, y))
same(CalibratedClassifierCV(net, cv=2).fit(X, y))
same(SVC(), output=lambda model, X, y: model.decision_function(X))
same_labels(net)
same_labels(pipeline)
removal_curve(
    net, X, y, X[:9], y[:9], X[:, 1], engine="joblib", n_jobs=2,
    fractions=[0.1], n_random=1, n_repeats=1,
)
print("done")
"""


def test_workers_know_nothing_of_main():
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-"],
        input=START + SCRIPT,
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout.endswith("done\n"), done.stderr[-2000:]
