"""
Does a score really predict training without the row? Ridge, exactly
====================================================================

A score claims to say what the model would answer had one training row been left out.  For ridge
regression that claim can be checked to the last digit, because every leave-one-out model is
cheap to fit.  How good is the claim, what is missing from it, and what does damping change?
"""

# %%
# A model, its scores, and the truth
# ----------------------------------
# The diabetes table of scikit-learn: 300 people to train on, 20 to explain.  ``damping=0`` asks for
# the undamped influence function; the model's own penalty is read from the fitted ``Ridge``.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge

from influencekit import InfluenceFunction

X, y = load_diabetes(return_X_y=True)
X_train, y_train, X_test = X[:300], y[:300], X[300:320]
model = Ridge(alpha=0.01).fit(X_train, y_train)

influence = InfluenceFunction(damping=0, output="prediction").fit(model, X_train, y_train)
scores = influence.score(X_test)  # (20, 300), in units of the prediction

truth = np.empty_like(scores)
for j in range(len(X_train)):
    without = clone(model).fit(np.delete(X_train, j, 0), np.delete(y_train, j))
    truth[:, j] = model.predict(X_test) - without.predict(X_test)

# %%
# What first order misses
# -----------------------
# The score moves the parameters along a straight line.  For a squared error the true move is longer
# by the factor 1 / (1 - h), where the leverage h says how much a row pulls its own prediction. With
# that factor the scores are exact.

centered = X_train - X_train.mean(0)
inverse = np.linalg.inv(centered.T @ centered + 0.01 * np.eye(X.shape[1]))
leverage = 1 / len(X_train) + np.einsum("ij,jk,ik->i", centered, inverse, centered)
exact = scores / (1 - leverage)

worst = np.abs(exact - truth).max() / np.abs(truth).max()
print(f"leverages from {leverage.min():.3f} to {leverage.max():.3f}")
print(f"score against leave-one-out: correlation {np.corrcoef(scores.flat, truth.flat)[0, 1]:.5f}")
print(f"with the factor: largest error {worst:.1e} of the largest effect")

# %%
# What damping changes
# --------------------
# Damping holds directions back in which the data vary little.  That makes the scores smaller than
# leave-one-out, and it changes their order.

damped = {damping: influence.set_damping(damping).score(X_test) for damping in (1e-4, 1e-3, 1e-2)}

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained")
limit = 1.05 * np.abs(truth).max()
points = {"c": np.tile(leverage, (len(scores), 1)), "cmap": "cividis_r"}
shown = left.scatter(truth, scores, s=8, edgecolor="gray", linewidth=0.3, **points)
figure.colorbar(shown, ax=left, label="leverage of the row")
left.set(title="undamped", ylabel="score")
looks = zip(("#0072B2", "#D55E00", "#009E73"), "os^", strict=True)
for (damping, found), (color, marker) in zip(damped.items(), looks, strict=True):
    correlation = np.corrcoef(found.flat, truth.flat)[0, 1]
    label = f"λ = {damping:g}, correlation {correlation:.2f}"
    right.scatter(truth, found, s=6, color=color, marker=marker, alpha=0.5, label=label)
right.set(title="damped")
right.legend(fontsize="small", markerscale=2)
for ax in (left, right):
    ax.plot([-limit, limit], [-limit, limit], color="gray", lw=0.8, zorder=0)
    ax.set(xlim=(-limit, limit), ylim=(-limit, limit))
    ax.set(xlabel="change of the prediction without the row (refitted)")
plt.show()

# %%
# What to take home
# -----------------
# On a linear model the undamped score *is* leave-one-out, up to a factor that is close to 1 unless
# one row dominates.  It is in the unit of the prediction: no scale has to be guessed.  Damping is
# not needed here and only takes away.  Networks are another matter: they are not at a minimum,
# their curvature is nearly singular, and there damping is what makes scores useful, see
# :ref:`sphx_glr_docs_auto_examples_plot_lambda_path.py`.
