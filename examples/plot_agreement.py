"""
Which method says what further training would do? Agreement curves
==================================================================

There is a fitted model and its data, and nothing of how it was trained.  *If it were trained on,
what would each row change?*  Further training measures it; gradient methods approximate it.  Which
approximation is right for how much training?
"""

# %%
# A regression network
# --------------------
# Diabetes, standardized.  (:ref:`sphx_glr_docs_auto_examples_plot_further_training_tabular.py` does
# the same on larger tables, with a classifier and Adam beside it.)

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_diabetes
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetRegressor
from torch import nn

from influencekit import FurtherTraining, GradCos, GradDot, InfluenceFunction, Training
from influencekit.displays import AgreementDisplay


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
# The measurement
# ---------------
# Thirty rows are left out, one at a time, and the model is trained on for up to 30 epochs at a
# tenth of its rate, under eight seeds.

horizons = [1, 3, 10, 30]
further = FurtherTraining(
    training=Training(lr=0.005, horizons=horizons),
    left_out=30,
    n_repeats=8,
    adjust="center",
    random_state=0,
).fit(net, X_train, y_train)
gold = further.measure(X_test, y_test)

# %%
# The methods
# -----------
# - ``GradDot`` and ``GradCos``: the first order, without curvature.
# - The influence function with the library's damping, which does not know how long training goes
#   on.
# - *Matched*: damping ``1 / (lr * steps)``, which does.


def matched(epochs, **options):
    """An influence function for so much further training."""
    config = FurtherTraining("sgd", lr=0.005, epochs=epochs, random_state=1)
    return InfluenceFunction(damping="matched", further_training=config, **options)


methods = {
    "GradDot": lambda epochs: GradDot(),
    "GradCos": lambda epochs: GradCos(),
    "influence, default λ": lambda epochs: InfluenceFunction(),
    "influence, matched λ": matched,
    "the same, predicted end": lambda epochs: matched(epochs, at="predicted"),
}
scores = {
    name: np.stack(
        [
            gold.pick(make(epochs).fit(net, X_train, y_train).score(X_test, y_test))
            for epochs in horizons
        ]
    )
    for name, make in methods.items()
}
results = {name: gold.agreement(found) for name, found in scores.items()}
for name, result in results.items():
    print(f"{name:<24}", *(f"{cosine:6.2f}" for cosine in result.cosine))

# %%
# Agreement against the amount of training
# ----------------------------------------
# The gray band is out of reach: the seeds of the measurement do not agree any better with each
# other.

AgreementDisplay.from_results(results, legend_loc="lower left")
plt.show()

# %%
# What to take home
# -----------------
# After one epoch the first order is all there is, and costs next to nothing.  The longer training
# goes on, the less it says, and the influence function with the default λ takes its place; it is
# meant for the end of training, and poor before.  A damping that knows how long training goes on is
# good over the whole range, and best where the gradients are taken at the predicted end. It needs
# the number of steps and the rate, and SGD: for other optimizers there is no such formula.
