"""
What does the model lose without its best rows? Removal curves
==============================================================

If scores are right, a model that is trained without the rows that they call most helpful is worse
than one trained without as many random rows, and one without the most harmful rows is not.  How
much worse, and which method finds those rows?
"""

# %%
# A network and three opinions
# ----------------------------
# Scores are computed on one half of the held-out digits, and the retrained models are judged on the
# other half: rows that no score has seen.

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from skorch import NeuralNetClassifier
from torch import nn

from influencekit import GradDot, InfluenceFunction, LossBaseline
from influencekit.applications import removal_curve
from influencekit.displays import RemovalCurveDisplay


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))

    def forward(self, X):
        return self.layers(X)


X, y = load_digits(return_X_y=True)
X_train, X_rest, y_train, y_rest = train_test_split(
    (X / 16).astype(np.float32), y, train_size=500, stratify=y, random_state=0
)
X_score, X_judge, y_score, y_judge = train_test_split(
    X_rest, y_rest, train_size=300, stratify=y_rest, random_state=0
)
torch.manual_seed(0)
net = NeuralNetClassifier(
    Net,
    criterion=nn.CrossEntropyLoss,
    optimizer__momentum=0.9,
    optimizer__weight_decay=5e-3,
    lr=0.05,
    max_epochs=25,
    batch_size=50,
    iterator_train__shuffle=True,
    train_split=None,
    verbose=0,
).fit(X_train, y_train)

attributors = {
    "InfluenceFunction": InfluenceFunction(),
    "GradDot": GradDot(),
    "Loss": LossBaseline(),
}
scores = {
    name: attributor.fit(net, X_train, y_train).score(X_score, y_score)
    for name, attributor in attributors.items()
}

# %%
# Take away, train again
# ----------------------
# Four shares of the rows, four seeds each, and four draws of random rows.  ``LossBaseline`` is the
# plain alternative: it calls the rows that the model fits worst the most harmful, without
# looking at the test rows at all.

curves = {
    which: removal_curve(
        net, X_train, y_train, X_judge, y_judge, scores, which=which,
        fractions=[0.1, 0.2, 0.35, 0.5], n_random=4, n_repeats=4, random_state=0,
    )
    for which in ("helpful", "harmful")
}  # fmt: skip
figure, axes = plt.subplots(1, 2, figsize=(11, 4.4), sharey=True, layout="constrained")
for ax, curve in zip(axes, curves.values(), strict=True):
    RemovalCurveDisplay.from_result(curve, ax=ax, legend_loc="lower left")
axes[1].set_ylabel("")
plt.show()

curves["harmful"].to_frame().unstack("fraction").round(3)

# %%
# What to take home
# -----------------
# The left picture is as it should be: without the rows that the influence function calls helpful
# the model is worse than without random ones, at every share.  The right one is the honest half:
# removing the "harmful" rows never makes this model better than it was, and at half of the rows it
# is worse than random removal.  The sets may be lopsided, too: of the eights in the training data
# ``GradDot`` calls so many harmful that none is left at 35 %.  Always draw the random curve;
# without it every curve that falls looks like a success.  And look at what was removed before
# believing in it.
