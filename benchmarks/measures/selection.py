"""Training on chosen rows while a share of the labels is wrong."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks import problems
from benchmarks.problems import nets
from benchmarks.problems.labels import flip_labels
from influencekit.applications import score_then_retrain


class Job:
    """One problem, and the rows of results of its trainings."""

    def __init__(self, data, rate, seed, n_train, n_val, lr, epochs):
        self.problem = problems.load(f"labels/{data}", seed, n_train + n_val)
        self.X, truth = self.problem.X[n_val:], self.problem.y[n_val:]
        self.validation = self.problem.X[:n_val], self.problem.y[:n_val]
        self.y = flip_labels(self.X, truth, rate, "uniform", seed)
        self.wrong = self.y != truth
        self.seed, self.lr, self.epochs = seed, lr, epochs
        self.rows: list[dict] = []

    def net(self, epochs: int, callbacks=()):
        """Unfitted: one hidden layer, AdamW."""
        recipe = {"optimizer": torch.optim.AdamW, "lr": self.lr, "max_epochs": epochs}
        classes = list(range(int(self.problem.y.max()) + 1))
        more = {"classes": classes, "callbacks": list(callbacks)}
        return nets.mlp_of((64,), len(classes), recipe, **more)(self.X, self.y)

    def online(self, way: str, selector=None, epochs: int | None = None, rows=slice(None)) -> None:
        """Train, perhaps with a selector, perhaps on some rows."""
        torch.manual_seed(self.seed)
        np.random.seed(self.seed)  # noqa: NPY002
        epochs = epochs or self.epochs
        net = self.net(epochs, [("look_ahead", selector)] if selector else ())
        net.fit(self.X[rows], self.y[rows])
        found = dict(net.callbacks_).get("look_ahead")
        cost = len(self.y[rows]) * epochs if found is None else found.n_gradients_
        kept = None if found is None else found.n_kept_
        wrong = None if kept is None else float(kept[self.wrong].sum()) / float(kept.sum())
        self.add(way, net, cost, wrong)

    def offline(self, way: str, **options) -> None:
        """Score all rows, and train again on a share of them."""
        found = score_then_retrain(
            self.net(self.epochs), self.X, self.y, *self.validation, random_state=self.seed,
            **options,
        )  # fmt: skip
        cost = 4 * len(self.X) * self.epochs + len(found.rows) * self.epochs
        self.add(way, found.estimator, cost, float(self.wrong[found.rows].mean()))

    def add(self, way: str, net, cost: float, wrong: float | None) -> None:
        accuracy = float(net.score(*self.problem.test))
        cost = cost / (len(self.X) * self.epochs)
        self.rows.append({"way": way, "accuracy": accuracy, "cost": cost, "wrong": wrong})
