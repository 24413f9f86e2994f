"""
Which labels are wrong? Finding and mending them
================================================

Three in ten labels of the digits are changed at random.  Which rows should a person look at
first, what is found, and is the model better once they are mended?
"""

# %%
# Spoil some labels
# -----------------

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from influencekit import InfluenceFunction
from influencekit.applications import NoisyLabelDetector
from influencekit.displays import LabelIssuesDisplay

X, y = load_digits(return_X_y=True)
X_train, X_test, right, y_test = train_test_split(
    X / 16, y, train_size=800, stratify=y, random_state=0
)
rng = np.random.default_rng(0)
wrong = np.zeros(len(right), dtype=bool)
wrong[rng.choice(len(right), 240, replace=False)] = True
y_train = np.where(wrong, (right + rng.integers(1, 10, len(right))) % 10, right)

# %%
# Look for them
# -------------
# The detector trains out of fold, sets the rows aside that the models disagree with most, and
# trains again.  Beside it stand the loss of the fitted model and self-influence, two rankings that
# need no retraining.

model = LogisticRegression(C=0.5, max_iter=500)
detector = NoisyLabelDetector(model, contamination=0.3, random_state=0).fit(X_train, y_train)
fitted = clone(model).fit(X_train, y_train)
loss = -fitted.predict_log_proba(X_train)[np.arange(len(y_train)), y_train]
self_influence = InfluenceFunction().fit(fitted, X_train, y_train).self_influence()

figure, (left, right_ax) = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
LabelIssuesDisplay.from_estimator(detector, issues=wrong, ax=left)
LabelIssuesDisplay.from_estimator(detector, issues=wrong, kind="ranking", ax=right_ax)
looks = {"loss": (loss, "#009E73", "-."), "self-influence": (self_influence, "#CC79A7", "--")}
for name, (values, color, line) in looks.items():
    found = np.cumsum(wrong[np.argsort(-values)]) / wrong.sum()
    share = 100 * np.arange(1, len(found) + 1) / len(found)
    right_ax.plot(share, 100 * found, color=color, ls=line, label=name)
right_ax.set_xlim(0, 70)
right_ax.legend(fontsize="small", loc="lower right")
plt.show()

suspected = detector.suspected_
print(f"{(suspected & wrong).sum()} of {wrong.sum()} wrong labels are among the "
      f"{suspected.sum()} suspected rows")  # fmt: skip

# %%
# The first suspects
# ------------------
# What a person would be shown: above the eight most suspicious rows, below those among the suspects
# whose label was right after all.

figure, axes = plt.subplots(2, 8, figsize=(9, 3.2), layout="constrained")
mistaken = [row for row in detector.ranking_ if suspected[row] and not wrong[row]]
for ax, row in zip(axes.flat, [*detector.ranking_[:8], *mistaken[:8]], strict=False):
    ax.imshow(X_train[row].reshape(8, 8), cmap="gray")
    truth = f"in truth {right[row]}" if wrong[row] else "was right"
    ax.set_title(f"label {y_train[row]}\n{truth}", fontsize=8)
for ax in axes.flat:
    ax.set_axis_off()
plt.show()

# %%
# Mend them
# ---------
# Somebody looks at the suspected rows and corrects them; or nobody has the time, and they are left
# out; or random rows are looked at, as many.

seen = rng.permutation(len(right))[: suspected.sum()]
mended, at_random = y_train.copy(), y_train.copy()
mended[suspected], at_random[seen] = right[suspected], right[seen]
ways = {
    "as they are": (X_train, y_train),
    "random rows looked at": (X_train, at_random),
    "suspects left out": (X_train[~suspected], y_train[~suspected]),
    "suspects looked at": (X_train, mended),
    "all labels right": (X_train, right),
}
for name, (inputs, labels) in ways.items():
    accuracy = clone(model).fit(inputs, labels).score(X_test, y_test)
    print(f"{name:<24}{accuracy:.3f}")

# %%
# What to take home
# -----------------
# With wrong labels spread at random the detector is close to the best possible, and looking at its
# suspects mends nearly everything.  Leaving them out helps less than correcting them.  The two
# rankings that need no retraining are not far behind here, self-influence and loss alike.  Random
# errors are the easy case: where labels are wrong in one region, a model learns the wrong labels
# and no ranking looks good, see :doc:`/docs/applications`.  And a suspect is a suspect: the lower
# row of images holds labels that were right.
