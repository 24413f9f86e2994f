"""
Why did the boosted trees get this one wrong?
=============================================

Boosted trees call a malignant tumor benign.  Which training rows made them say so?  And is that
true: what do they say when they are trained again without these rows?
"""

# %%
# Find a mistake
# --------------

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import train_test_split

from influencekit import TreeInfluence

data = load_breast_cancer()
X_train, X_test, y_train, y_test = train_test_split(
    data.data, data.target, train_size=400, stratify=data.target, random_state=1
)
model = HistGradientBoostingClassifier(max_iter=60, max_leaf_nodes=8, random_state=0)
model.fit(X_train, y_train)

share = model.predict_proba(X_test)[:, 1]
wrong = np.flatnonzero((share > 0.5) != y_test)
mistake = wrong[np.argmin(np.abs(share[wrong] - 0.5))]
x, said = X_test[[mistake]], int(share[mistake] > 0.5)
names = data.target_names
print(f"{len(wrong)} of {len(y_test)} wrong. Test row {mistake} is {names[y_test[mistake]]}; the "
      f"model says {names[said]} with {max(share[mistake], 1 - share[mistake]):.0%}")  # fmt: skip

# %%
# The rows behind it
# ------------------
# Without ``y``, the model's own answer is explained, so proponents are the rows that speak for the
# wrong class.  A score is in units of the log-probability of that answer, with the splits of the
# trees held where they are.

influence = TreeInfluence().fit(model, X_train, y_train)
scores = influence.score(x)[0]
rows = np.argsort(-scores)
for row in rows[:5]:
    print(f"training row {row:3d}, {names[y_train[row]]}: {scores[row]:+.4f}")

# %%
# Train again without them
# ------------------------
# The splits move as well now.  Rows drawn at random from the class that the model chose are the
# comparison.


def answer(left_out):
    kept = np.setdiff1d(np.arange(len(X_train)), left_out)
    again = clone(model).fit(X_train[kept], y_train[kept])
    return again.predict_proba(x)[0, said]


counts = [0, 2, 5, 10, 20, 30]
chosen = [answer(rows[:k]) for k in counts]
rng = np.random.default_rng(0)
same = np.flatnonzero(y_train == said)
drawn = np.array([[answer(rng.permutation(same)[:k]) for k in counts] for _ in range(8)])

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
top = np.r_[rows[:8], rows[-8:]]
colors = np.where(y_train[top] == said, "#E69F00", "#0072B2")
left.barh(np.arange(16), scores[top], color=colors)
left.set_yticks(np.arange(16), [f"row {row}" for row in top], fontsize="small")
left.invert_yaxis()
left.axvline(0, color="black", lw=0.8)
left.set(xlabel="score", title=f"Rows for and against “{names[said]}”")
for label in (said, 1 - said):
    color = "#E69F00" if label == said else "#0072B2"
    left.barh([0], [0], color=color, label=names[label])
left.legend(title="label of the row", fontsize="small")
right.plot(counts, drawn.T, color="#999999", lw=0.8)
right.plot([], [], color="#999999", label=f"random rows that are {names[said]}, 8 draws")
right.plot(counts, chosen, "o-", color="#D55E00", label="the strongest proponents")
right.axhline(0.5, color="black", lw=0.8, ls=":")
right.set(
    xlabel="rows left out",
    ylabel=f"probability of “{names[said]}”",
    title="Trained again without them",
    ylim=(0, 1),
)
right.legend(fontsize="small", loc="lower left")
plt.show()

k = counts.index(10)
print(f"Without its 10 strongest proponents: {chosen[k]:.2f}, from {chosen[0]:.2f}; without 10 "
      f"random rows of the class: {drawn[:, k].mean():.2f} in the mean")  # fmt: skip

# %%
# What to take home
# -----------------
# The rows with the highest scores carry the mistake: trained without 20 of them, the model gives
# the right answer, while 20 random rows of the same class leave it about where it was.  The first
# few rows alone are not reliable: whichever row is left out, the splits move, and the line jumps.
# Scores hold the splits, so trust them for sets of rows more than for single ones, and confirm by
# retraining.  Rows of the other class can speak for a mistake too, through the leaves that later
# trees fit to what is left over.
