"""The picture of the landing pages: ``python docs/_pictures.py`` writes it into docs/images."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from skorch import NeuralNetClassifier
from torch import nn

from influencekit import RunAverage
from influencekit.displays import TopExamplesDisplay
from influencekit.training import KeepCheckpoints

IMAGES = Path(__file__).parent / "images"


def main() -> None:
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(
        X.astype(np.float32), y, train_size=1000, stratify=y, random_state=0
    )
    torch.manual_seed(0)
    net = NeuralNetClassifier(
        nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10)),
        criterion=nn.CrossEntropyLoss,
        optimizer__momentum=0.9,
        optimizer__weight_decay=5e-3,
        lr=0.05,
        max_epochs=30,
        batch_size=64,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
        callbacks=[KeepCheckpoints(n=8)],
    )
    model = make_pipeline(MinMaxScaler(), net).fit(X_train, y_train)
    chance = model.predict_proba(X_test)
    margin = chance[np.arange(len(y_test)), y_test] - chance.max(1)
    wrong = np.argsort(margin)[:2]  # the surest mistakes
    display = TopExamplesDisplay.from_estimator(
        RunAverage().fit(model, X_train, y_train),
        X_train,
        X_test,
        y_train=y_train,
        y_query=y_test,
        rows=wrong,
        k=4,
        image_shape=(8, 8),
    )
    display.figure_.savefig(IMAGES / "wrong_answer.png", dpi=130)


if __name__ == "__main__":
    main()
