"""
What did an example do in this very training run? Trajectories
==============================================================

Training is a path, with an order of batches and an optimizer that remembers.  Had one example been
left out of it, all else equal, where would the path have ended?  ``AdamWInfluence`` differentiates
the recorded run.  Here it is compared with running it again, with a method that takes the
optimizer for SGD, and with its own estimate of its error.
"""

# %%
# Record a run
# ------------
# One callback; training is what it would be without.

import warnings

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from skorch import NeuralNetClassifier
from torch import nn

from influencekit import AdamWInfluence, SGDInfluence
from influencekit.displays import ErrorProxyDisplay
from influencekit.exceptions import InfluenceKitWarning
from influencekit.training import TrajectoryRecorder, trajectory_leave_one_out


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10))

    def forward(self, X):
        return self.layers(X)


X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
X_train, y_train, X_test, y_test = X[:400], y[:400], X[400:430], y[400:430]
torch.manual_seed(0)
net = NeuralNetClassifier(
    Net,
    criterion=nn.CrossEntropyLoss,
    optimizer=torch.optim.AdamW,
    lr=3e-3,
    batch_size=32,
    max_epochs=4,
    iterator_train__shuffle=True,
    train_split=None,
    callbacks=[TrajectoryRecorder()],
    verbose=0,
).fit(X_train, y_train)

# %%
# Scores, and the truth
# ---------------------
# The run is repeated eighty times, each time without one example.  ``SGDInfluence`` takes the same
# run for one of SGD; it warns, which is silenced here because that is the comparison.

examples = np.arange(0, 400, 5)
truth = trajectory_leave_one_out(net, X_train, y_train, X_test, y_test, left_out=examples)
adam = AdamWInfluence().fit(net, X_train, y_train)
with warnings.catch_warnings():
    warnings.simplefilter("ignore", InfluenceKitWarning)
    sgd = SGDInfluence().fit(net, X_train, y_train)
scores = {
    "AdamWInfluence": adam.score(X_test, y_test),
    "SGDInfluence": sgd.score(X_test, y_test),
}
print(f"{truth.unresolved:.1%} of the changes are within rounding")

figure, axes = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained")
looks = zip(axes, scores.items(), ("#0072B2", "#D55E00"), strict=True)
for ax, (name, found), color in looks:
    rank = truth.spearman(found).mean
    ax.scatter(truth.scores, truth.pick(found), s=5, alpha=0.4, color=color)
    limit = np.abs(truth.scores).max()
    ax.plot([-limit, limit], [-limit, limit], color="gray", lw=0.8, zorder=0)
    ax.set(title=f"{name}: rank correlation {rank:.2f}", xlabel="change in the repeated run")
axes[0].set_ylabel("score")
plt.show()

# %%
# How far to trust it
# -------------------
# The second-order term along the same run, without repeating it.  Height is the true error of an
# example's scores, which one would not know; what is right of the line is flagged.

proxy = adam.taylor_error_proxy(X_test, y_test, left_out=examples)
ErrorProxyDisplay.from_predictions(proxy, truth.scores)
plt.show()

error = np.linalg.norm(proxy.scores - truth.scores, axis=0) / np.linalg.norm(truth.scores, axis=0)
trusted = proxy.trusted(0.5)
print(f"median relative error: {np.median(error[trusted]):.2f} where trusted")
if not trusted.all():
    print(f"                       {np.median(error[~trusted]):.2f} where flagged")

# %%
# When in training did it matter?
# -------------------------------
# The score of an example is a sum over the steps that used it, which ``step_scores`` keeps apart.
# Drawn is the mean size of the effect of one example in one step.  The peaks are the last batches
# of an epoch, which hold 16 examples in place of 32.

steps = adam.step_scores(X_test, y_test)
sizes = [
    np.abs(steps.scores[:, steps.steps == step]).mean() for step in range(steps.steps.max() + 1)
]
figure, ax = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
ax.plot(sizes, "o-", markersize=3, color="#0072B2")
ax.set(xlabel="step", ylabel="mean |score| in one step", ylim=(0, None))
plt.show()

# %%
# What to take home
# -----------------
# Differentiating through the optimizer that was used pays: the ranks are nearly those of the
# repeated runs, and the sizes are close, where SGD's formula has neither.  The second-order term
# finds the worst example without a rerun, and calls some others trusted that are not.  This is a
# short run of a smooth network; long runs at high rates are harder, and the page on measured
# trajectories has one where the size of a score could not be trusted at all.  So repeat a few dozen
# runs before believing ranks.
