"""
How few rows does an answer hang on?
====================================

A single row seldom changes what a model says. A handful can, and they may hide each other: none of
them looks important by itself. This example searches for such sets, and asks how sure scores are.
"""

# %%
# Predictions that are close
# --------------------------
# Breast cancer data, logistic regression, and test patients about whom the model is less than sure.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from influencekit import InfluenceFunction

X, y = load_breast_cancer(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
scaler = StandardScaler().fit(X_train)
X_train, X_test = scaler.transform(X_train), scaler.transform(X_test)
model = LogisticRegression().fit(X_train, y_train)
p = model.predict_proba(X_test)
closest = np.argsort(p.max(1))

# %%
# The smallest set that flips it
# ------------------------------
# ``until="flip"`` removes rows until the model predicts the other class, and solves the model
# without them to be sure. ``p_value`` compares the set with random ones of its size.

influence = InfluenceFunction(output="margin", removal_order="newton", random_state=0).fit(
    model, X_train, y_train
)
for i in closest[[1, 3, 5]]:
    found = influence.most_influential_set(X_test[[i]], until="flip")
    without = LogisticRegression().fit(
        np.delete(X_train, found.rows, 0), np.delete(y_train, found.rows)
    )
    said = without.predict_proba(X_test[[i]]).max()
    print(
        f"p = {p[i].max():.3f}: {len(found.rows)} of {len(X_train)} rows flip it; without them the "
        f"other class has {said:.3f}, p-value {found.p_value:.2f}"
    )

# %%
# Rows that hide each other
# -------------------------
# Two points far out: without one of them, the other still holds the line down. By single deletions,
# even exact ones, a row in the cloud seems to matter more than the second of them; searched as a
# set, both are found.

rng = np.random.default_rng(0)
x = np.r_[rng.normal(size=16), 12.0, 12.2]
t = np.r_[x[:16] + 0.5 * rng.normal(size=16), -5.0, -1.0]
line = LinearRegression().fit(x[:, None], t)
slope = InfluenceFunction(output="coef", removal_order="newton").fit(line, x[:, None], t)
pair = slope.most_influential_set(0, k=2, opponents=True).rows
single = np.argsort(slope.score(0)[0])[:2]

_, ax = plt.subplots(figsize=(6.5, 4.4), layout="constrained")
at = np.linspace(-2.5, 13, 50)[:, None]
ax.scatter(x, t, color="0.4", s=20)
for rows, color, label in ((single, "#D55E00", "two largest scores"), (pair, "#0072B2", "the set")):
    refit = LinearRegression().fit(np.delete(x, rows)[:, None], np.delete(t, rows))
    ax.plot(
        at, refit.predict(at), color=color, label=f"without {label}: slope {refit.coef_[0]:.2f}"
    )
    ax.scatter(x[rows], t[rows], s=90, facecolor="none", edgecolor=color)
ax.plot(at, line.predict(at), color="0.6", ls="--", label=f"all rows: slope {line.coef_[0]:.2f}")
ax.set(xlabel="x", ylabel="y", title="Two rows that hide each other", ylim=(-7, 14))
ax.legend(fontsize="small")
plt.show()

# %%
# How sure are the scores?
# ------------------------
# ``interval=0.9`` adds where a score would be in another sample of patients. Rows whose interval
# holds 0 might as well be on the other side.

table = influence.top_k(X_test[closest[:1]], k=12, as_frame=True, interval=0.9)[::-1]
_, ax = plt.subplots(figsize=(6.5, 4.4), layout="constrained")
colors = np.where(table["holds_zero"], "#999999", "#0072B2")
ax.hlines(range(12), table["low"], table["high"], colors=colors)
ax.scatter(table["score"], range(12), color=colors, zorder=3)
ax.axvline(0, color="black", lw=0.8)
ax.set(yticks=range(12), yticklabels=table["row"], ylabel="training row", xlabel="score (log-odds)")
ax.set_title("strongest proponents, gray: sign open")
plt.show()

# %%
# What to take home
# -----------------
# Ask for a set where a conclusion matters: a coefficient's sign, a decision, a gap between groups
# (``property=``). A small set is no proof that its rows are wrong; it says whom to look at.
