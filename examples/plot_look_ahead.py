"""
Which rows should this step learn from? Looking ahead while training
====================================================================

Three in ten labels are wrong.  ``LookAheadSelector`` tries a few steps, follows each row's effect
on clean validation data through the optimizer, and takes the real step on the rows that helped.
Does that beat training on everything, and does a longer look ahead help?
"""

# %%
# Digits with wrong labels
# ------------------------

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from skorch import NeuralNetClassifier
from torch import nn

from influencekit.applications import LookAheadSelector, score_then_retrain


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, X):
        return self.layers(X)


X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
X_train, X_rest, truth, y_rest = train_test_split(X, y, train_size=600, stratify=y, random_state=0)
X_val, y_val, X_test, y_test = X_rest[:100], y_rest[:100], X_rest[100:], y_rest[100:]
rng = np.random.default_rng(0)
wrong = rng.random(len(truth)) < 0.3
y_train = np.where(wrong, (truth + rng.integers(1, 10, len(truth))) % 10, truth)

net = NeuralNetClassifier(
    Net,
    criterion=nn.CrossEntropyLoss,
    optimizer=torch.optim.AdamW,
    lr=1e-2,
    batch_size=50,
    max_epochs=15,
    iterator_train__shuffle=True,
    train_split=None,
    verbose=0,
)


def accuracy(X, y, seed, selector=None):
    """Test accuracy, and the fitted selector."""
    callbacks = [] if selector is None else [("look_ahead", selector)]
    torch.manual_seed(seed)
    fitted = clone(net).set_params(callbacks=callbacks).fit(X, y)
    return fitted.score(X_test, y_test), dict(fitted.callbacks_).get("look_ahead")


# %%
# Ways to choose
# --------------
# Everything, and the rows with right labels, which nobody knows, are the two ends.  Between them a
# fair competitor: the validation rows are clean, so they could just as well be trained on.  Looking
# ahead keeps seven rows in ten, for horizons of 0 to 4 steps.  "Offline" trains once, scores every
# row with the whole run as its horizon, and trains again on the best.

SEEDS = range(3)
found, kept_wrong = {}, {}
found["all rows"] = [accuracy(X_train, y_train, seed)[0] for seed in SEEDS]
both = np.concatenate([X_train, X_val]), np.concatenate([y_train, y_val])
found["all rows and validation"] = [accuracy(*both, seed)[0] for seed in SEEDS]
for horizon in (0, 1, 4):
    name = f"online, horizon {horizon}"
    chosen = [
        accuracy(X_train, y_train, seed, LookAheadSelector(X_val, y_val, horizon=horizon, keep=0.7))
        for seed in SEEDS
    ]
    found[name] = [score for score, _ in chosen]
    kept = [s.n_kept_[wrong].sum() / s.n_kept_.sum() for _, s in chosen]
    kept_wrong[name] = float(np.mean(kept))
offline = []
for seed in SEEDS:
    torch.manual_seed(seed)
    offline.append(
        score_then_retrain(clone(net), X_train, y_train, X_val, y_val, keep=0.7, random_state=seed)
    )
found["offline, whole run"] = [o.estimator.score(X_test, y_test) for o in offline]
kept_wrong["offline, whole run"] = float(np.mean([wrong[o.rows].mean() for o in offline]))
found["right labels only"] = [accuracy(X_train[~wrong], truth[~wrong], seed)[0] for seed in SEEDS]

figure, ax = plt.subplots(figsize=(8, 4), layout="constrained")
for place, (name, values) in enumerate(found.items()):
    selected = name in kept_wrong
    color, marker = ("#0072B2", "o") if selected else (plt.rcParams["text.color"], "D")
    ax.errorbar(np.mean(values), place, xerr=np.std(values, ddof=1) / np.sqrt(len(values)),
                color=color, marker=marker, capsize=3)  # fmt: skip
    ax.scatter(values, [place] * len(values), s=10, color="gray", zorder=0)
    if selected:
        text = f"{kept_wrong[name]:.0%} of the rows used are wrong"
        ax.annotate(text, (np.mean(values), place), (0, 7), textcoords="offset points",
                    ha="center", fontsize=8)  # fmt: skip
ax.set_yticks(range(len(found)), list(found))
ax.set_ylim(len(found) - 0.5, -0.7)
ax.set_xlabel("test accuracy (mean, standard error, and the single seeds)")
plt.show()

# %%
# What to take home
# -----------------
# Selection halves the share of wrong labels, and with horizon 0 it brings about half of what
# knowing the right labels would.  But the hundred clean rows that it needs are worth as much when
# they are simply trained on, at a fraction of the cost.  And a longer look ahead does not help
# here: at this learning rate four steps are worse than none, and the whole run is no better than
# training on everything.  Lower the rate before lengthening the horizon, search over both, and
# always draw the competitor.  What was measured on more rows is in
# :doc:`/docs/trajectories_measured`.
