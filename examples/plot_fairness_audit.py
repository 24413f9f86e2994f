"""
Is this gap due to a few people? A fairness audit with exact removal
====================================================================

A linear model gives one group of people a higher probability than another.  Which training rows
make the gap wide?  Would it be closed without them?  For a linear model each answer can be checked
by solving the model again, and the check is part of the call.
"""

# %%
# A gap
# -----
# The diabetes table has 1 and 2 for the sexes and does not say which is which.  The model says who
# has a disease progression above the median.  The gap is the difference of the mean probabilities
# of the two sexes among the test people.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from influencekit import GroupAttributor, InfluenceFunction
from influencekit.displays import GroupScoresDisplay
from influencekit.groups import DemographicParityDifference

X, y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
y = (y > y.median()).astype(int)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0, stratify=X["sex"])
model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X_train, y_train)
second = (X_test["sex"] == 2).to_numpy()


def gap_of(fitted):
    """Difference of the mean probabilities, by hand."""
    chance = fitted.predict_proba(X_test)[:, 1]
    return chance[second].mean() - chance[~second].mean()


print(f"mean probability of sex 2 less that of sex 1: {gap_of(model):+.3f}")

# %%
# Which people make it wide?
# --------------------------
# Groups are sex and age band.  ``removal_order="newton"`` takes one Newton step without the whole
# group, which counts that its rows share what they teach.  The diamonds are fitted without them.

sexes = "sex " + X_train["sex"].astype(int).astype(str)
bands = pd.qcut(X_train["age"], 4, labels=["youngest", "younger", "older", "oldest"])
names = sexes + ", " + bands.astype(str)
gap = DemographicParityDifference(second)
audit = GroupAttributor(InfluenceFunction(removal_order="newton"), property=gap)
audit.fit(model, X_train, y_train, groups=names.to_numpy())
scores = audit.score(X_test, y_test)[0]


def without(rows):
    """The gap of a model that is fitted without some rows."""
    kept = np.setdiff1d(np.arange(len(X_train)), rows)
    return abs(gap_of(clone(model).fit(X_train.iloc[kept], y_train.iloc[kept])))


measured = [
    abs(gap_of(model)) - without(np.flatnonzero(names == name)) for name in audit.group_names_
]
figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
GroupScoresDisplay(
    scores,
    audit.group_names_,
    measured,
    label="predicted fall of the gap without the group",
    sizes=audit.group_sizes_,
).plot(ax=ax)
plt.show()

# %%
# How few rows close it?
# ----------------------
# ``most_influential_set`` searches for a small set without which the gap is at most half as wide,
# and solves the model without it.

influence = InfluenceFunction(removal_order="newton", random_state=0).fit(model, X_train, y_train)
half = abs(gap_of(model)) / 2
found = influence.most_influential_set(X_test, y_test, property=gap, until=half)
print(
    f"{len(found.rows)} of {len(X_train)} rows: the gap falls from {found.before:.3f} to "
    f"{found.refitted:.3f}; fitted by hand: {without(found.rows):.3f}"
)
print(f"share of random sets of that size that move it as far: {found.p_value:.2f}")

# %%
# Who are they?
# -------------

kinds = pd.Series(np.where(np.isin(np.arange(len(X_train)), found.rows), "the set", "all others"))
outcome = sexes + ", " + y_train.map({0: "low", 1: "high"})
table = pd.crosstab(kinds.to_numpy(), outcome.to_numpy(), normalize="index")
figure, ax = plt.subplots(figsize=(7, 2.6), layout="constrained")
table.plot.barh(stacked=True, ax=ax, color=["#56B4E9", "#0072B2", "#E69F00", "#D55E00"])
ax.set(xlabel="share of the rows", ylabel="")
ax.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize="small")
plt.show()

# %%
# And the other answers?
# ----------------------
# ``predict_without`` gives the model without the set: its probabilities, and how far a refit can be
# from them at most.

rest = influence.predict_without(found.rows, X_test)
print(f"solved again: {rest.refitted}, largest distance from a refit: {np.max(rest.bound):.1e}")
before = model.score(X_test, y_test)
kept = np.setdiff1d(np.arange(len(X_train)), found.rows)
after = clone(model).fit(X_train.iloc[kept], y_train.iloc[kept]).score(X_test, y_test)
print(f"accuracy with the set {before:.3f}, without it {after:.3f}")

# %%
# What to take home
# -----------------
# The one Newton step without a group agrees with fitting again, so an audit of a linear model needs
# no trust in first-order scores.  A gap that a few rows can halve says little about the people as a
# whole; one that needs many rows is a property of the data.  The rows of the set are where to look,
# not what to delete: they are chosen for their effect, and most of them are right.
