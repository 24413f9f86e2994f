"""
Why adjust a gold standard? The same runs, read three ways
==========================================================

Further training measures what a row does to a fitted model: train on with it and without it, and
compare the outputs.  A model that was not trained to the end moves anyway, and the difference to
the *fitted* model is mostly that movement.  What is left of the gold standard without an
adjustment, and does it matter how the row is left out?
"""

# %%
# A network that still moves
# --------------------------
# Diabetes, standardized, after sixty epochs: far enough to predict well, not to a stationary point.

import tempfile

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_diabetes
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetRegressor
from torch import nn

from influencekit import FurtherTraining, GradDot, Training


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, X):
        return self.layers(X)


X, y = load_diabetes(return_X_y=True)
X = StandardScaler().fit_transform(X).astype(np.float32)
y = ((y - y[:300].mean()) / y[:300].std()).astype(np.float32)[:, None]
X_train, y_train, X_test, y_test = X[:300], y[:300], X[300:340], y[300:340]
torch.manual_seed(0)
net = NeuralNetRegressor(
    Net, lr=0.05, max_epochs=60, batch_size=32, train_split=None, verbose=0
).fit(X_train, y_train)

# %%
# Two ways of leaving out, three ways of reading
# ----------------------------------------------
# *Paired* runs keep the batches and give the row the weight zero; *dropped* rows let all later ones
# move up, so that every batch behind them differs.  The outputs without the row are compared with
# the fitted model (``adjust=None``), with the full-data run of the same seed (``"full"``, (17) of
# Wei et al., arXiv 2412.03906) or with the mean over all left-out rows (``"center"``, (13)).
#
# With a ``cache_dir`` each run is trained once and read three times.

adjustments = {"none": None, '"full", (17)': "full", '"center", (13)': "center"}
removals = ["paired", "drop"]
training = Training(lr=0.005, epochs=1, batch_size=32)
scores = GradDot().fit(net, X_train, y_train).score(X_test, y_test)
cosines, errors, offsets = {}, {}, {}
for removal in removals:
    with tempfile.TemporaryDirectory() as folder:
        for name, adjust in adjustments.items():
            further = FurtherTraining(
                training=training,
                left_out=30,
                n_repeats=4,
                removal=removal,
                adjust=adjust,
                cache_dir=folder,
                random_state=0,
            ).fit(net, X_train, y_train)
            result = further.measure(X_test, y_test).agreement(scores)
            cosines[removal, name] = result.cosine[0]
            errors[removal, name] = result.cosine_se[0]
            offsets[removal] = result.offset_share[0]
    print(f"{removal:<8}", *(f"{cosines[removal, name]:6.2f}" for name in adjustments))

# %%
# One method, six gold standards
# ------------------------------
# The scores are the same in all six bars: those of ``GradDot``, after one further epoch.

figure, ax = plt.subplots(figsize=(6.5, 3.6), layout="constrained")
for i, removal in enumerate(removals):
    heights = [cosines[removal, name] for name in adjustments]
    bars = [errors[removal, name] for name in adjustments]
    ax.bar(np.arange(3) + 0.4 * i - 0.2, heights, 0.38, yerr=bars, label=removal)
ax.axhline(0, color="0.5", lw=0.8)
ax.set_xticks(range(3), list(adjustments))
ax.set(xlabel="adjust", ylabel="cosine of GradDot", ylim=(min(0, ax.get_ylim()[0]), 1.0))
ax.legend(title="removal", loc="upper left")
plt.show()

# %%
# What the others have in common
# ------------------------------
# The share of the scores' energy that is one number for all left-out rows, for which no row is to
# blame.  With pairs the full-data run takes it away; with dropped rows another order of the
# batches brings it back, and only the mean over the left-out rows removes it.

for removal, offset in offsets.items():
    print(f"{removal:<8} energy in a common offset, against the full-data run: {offset:.0%}")

# %%
# What to take home
# -----------------
# Without an adjustment the gold standard of an unfinished model says how the model moves, not what
# a row does.  A small cosine there says nothing about the method.  Use ``removal="paired"`` and
# ``adjust="full"``, the defaults: scores then keep their unit and their level.  Where the row has
# to be dropped from the order, as in plain training code, ``adjust="center"`` is needed; it costs
# the level of the scores, which becomes relative to the other left-out rows.
