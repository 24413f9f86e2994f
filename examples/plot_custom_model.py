"""
My model is not in the list: can it be attributed all the same?
===============================================================

Yes, if its objective is a sum over rows plus a squared penalty.  One function tells the package
how to read such a model.  Here it is scikit-learn's ``PoissonRegressor``, which counts things, and
the explained output is a number of our own choice.  The result is compared with refitting.
"""

# %%
# Counts, and a model that is refused
# -----------------------------------
# How many of the physical measurements of a tumor lie in the top tenth?  A count from 0 to 10,
# predicted from the standardized texture and error columns of the breast cancer table.

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.stats import spearmanr
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import PoissonRegressor
from sklearn.preprocessing import StandardScaler
from torch import nn

from influencekit import InfluenceFunction, Task, as_task
from influencekit.exceptions import UnsupportedModelError
from influencekit.models import PoissonLoss

cancer = load_breast_cancer()
means, errors = cancer.data[:, :10], cancer.data[:, 10:20]
counts = (means > np.quantile(means, 0.9, axis=0)).sum(1).astype(float)
X = StandardScaler().fit_transform(errors)
X_train, y_train, X_test = X[:400], counts[:400], X[400:410]
model = PoissonRegressor(alpha=0.1, tol=1e-10, max_iter=1000).fit(X_train, y_train)

try:
    InfluenceFunction().fit(model, X_train, y_train)
except UnsupportedModelError as error:
    print(str(error)[:300], "...")

# %%
# Teach it
# --------
# A :class:`~influencekit.Task` is a torch module with the fitted weights, the loss of one row, and
# the penalty by parameter.  ``PoissonRegressor`` minimizes the mean of half the deviance plus ½ α
# ‖coef‖², and leaves the intercept free.  Registered once, the model works everywhere.


@as_task.register
def poisson_task(model: PoissonRegressor, loss=None) -> Task:
    layer = nn.Linear(model.n_features_in_, 1, dtype=torch.float64)
    with torch.no_grad():
        layer.weight[0] = torch.from_numpy(model.coef_)
        layer.bias.fill_(float(model.intercept_))
    return Task(
        module=nn.Sequential(layer).eval(),
        loss=PoissonLoss(),
        penalty={"0.weight": torch.tensor(model.alpha)},
    )


# %%
# An output of one's own
# ----------------------
# The expected count itself, in place of the loss: ``outputs`` are the natural outputs of the model,
# here the logarithm of the expected count.  The first check is the cheapest: at a minimum the
# gradient of the objective is zero, so ``gradient_ratio_`` tells a wrong loss or a forgotten
# penalty at once.


def expected_count(outputs, targets):
    return outputs[:, 0].exp()


influence = InfluenceFunction(damping=0, output=expected_count).fit(model, X_train, y_train)
scores = influence.score(X_test, model.predict(X_test))
print(f"gradient of the objective at the fitted weights: {influence.gradient_ratio_:.1e}")

# %%
# Check it by refitting
# ---------------------
# The 100 rows with the largest scores and 100 others, each left out.  A mean-type objective weighs
# its penalty against one row less when it is refitted; ``alpha`` makes up for that.

order = np.argsort(-np.abs(scores).max(0))
left_out = np.concatenate([order[:100], order[100::3][:100]])
truth = np.empty((len(X_test), len(left_out)))
n = len(X_train)
for k, j in enumerate(left_out):
    without = clone(model).set_params(alpha=0.1 * n / (n - 1))
    without.fit(np.delete(X_train, j, 0), np.delete(y_train, j))
    truth[:, k] = model.predict(X_test) - without.predict(X_test)
predicted = scores[:, left_out]
rank = np.mean([spearmanr(a, b).statistic for a, b in zip(predicted, truth, strict=True)])
print(f"rank correlation {rank:.3f}, mean over {len(X_test)} tumors")

figure, ax = plt.subplots(figsize=(5.6, 4.6), layout="constrained")
residual = np.abs(y_train - model.predict(X_train))[left_out]
points = {"c": np.tile(residual, (len(truth), 1)), "cmap": "cividis_r"}
shown = ax.scatter(truth, predicted, s=10, edgecolor="gray", linewidth=0.3, **points)
figure.colorbar(shown, label="residual of the row left out")
limits = [truth.min(), truth.max()]
ax.plot(limits, limits, color="gray", lw=0.8, zorder=0)
ax.set(xlabel="change of the expected count (refitted)", ylabel="score")
plt.show()

# %%
# What to take home
# -----------------
# A dozen lines bring a new kind of model in, and ``gradient_ratio_`` says whether they are right.
# The order of the rows is that of refitting.  The size is too small for the few rows that pull
# hardest: a score is of first order, and this model, with an exponential inside, is far from
# quadratic.
