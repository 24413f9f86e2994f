"""
Which rows decide a fit? Leverage, Cook's distance, a coefficient without a row
==================================================================================

The first look at a regression: which rows are far out, which does the model not explain, and which
are both? Then the same question exactly: what happens to one coefficient if a row is deleted?
"""

# %%
# All diagnostics in one table
# ----------------------------
# The names are those of statsmodels: leverage is ``hat_diag``, and ``dfb_bmi`` is the DFBETAS of
# the coefficient of the body mass index.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression

from influencekit import InfluenceFunction, influence_diagnostics
from influencekit.displays import InfluencePlotDisplay

X, y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
model = LinearRegression().fit(X, y)
table = influence_diagnostics(model, X, y)
columns = ["hat_diag", "student_resid", "cooks_d", "dffits", "dfb_bmi", "d_deviance"]
print(table.nlargest(5, "cooks_d")[columns].round(3))

# %%
# Far out, or badly explained, or both
# ------------------------------------
# A bubble's area is Cook's distance. A row at the right has the leverage to pull the model; a row
# at the top or bottom is one that the model does not explain. The largest bubbles are named.

InfluencePlotDisplay.from_predictions(table, most=5)
plt.show()

# %%
# A coefficient without a row
# ---------------------------
# ``output="coef"`` explains a coefficient in its own unit: here, disease progression per unit of
# body mass index. To first order a removal is too small by the factor 1 - leverage; one Newton step
# is exact for least squares, as refits show.

by_order = {
    order: InfluenceFunction(output="coef", removal_order=order).fit(model, X, y).score("bmi")[0]
    for order in ("first", "newton")
}
refitted = np.empty(len(X))
for j in range(len(X)):
    kept = np.arange(len(X)) != j
    refitted[j] = model.coef_[2] - clone(model).fit(X[kept], y[kept]).coef_[2]

figure, ax = plt.subplots(figsize=(5.4, 4.6), layout="constrained")
for (order, found), (color, marker) in zip(
    by_order.items(), (("#D55E00", "x"), ("#0072B2", ".")), strict=True
):
    error = np.abs(found - refitted).max() / np.abs(refitted).max()
    label = f'removal_order="{order}", largest error {error:.1%}'
    ax.scatter(refitted, found, color=color, marker=marker, s=30, label=label)
limits = [refitted.min() * 1.1, refitted.max() * 1.1]
ax.plot(limits, limits, color="gray", lw=0.8, zorder=0)
ax.set(
    xlabel="coefficient of bmi minus that of a refit without the row",
    ylabel="predicted",
    title="442 deletions",
)
ax.legend(fontsize="small")
plt.show()

# %%
# What to take home
# -----------------
# Cook's distance finds the rows that move all predictions; ``dfb_NAME`` and ``output="coef"`` those
# that move one coefficient. On these data no row has a leverage near 1, so first order is nearly
# right; where one has, ``score`` gives a ``LeverageWarning``.
