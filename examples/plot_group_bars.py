"""
Which kind of rows made the model better? Scores of groups
==========================================================

Single rows matter little.  A source, a region or a kind of people matters more, and can be checked:
train again without it.  Which groups does a model learn from, for whom, and how far
can sums of scores be trusted when many rows go at once?
"""

# %%
# A pipeline and groups
# ---------------------
# The diabetes table: disease progression after a year, in raw units.  People are grouped by sex and
# age band, two of the ten columns that the model sees.  (The table has 1 and 2 for the sexes and
# does not say which is which.)

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from influencekit import InfluenceFunction
from influencekit.displays import GroupScoresDisplay
from influencekit.groups import GroupAttributor, leave_group_out

X, y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
bands = pd.cut(X["age"], [0, 40, 55, 100], labels=["under 40", "40 to 54", "55 and over"])
people = "sex " + X["sex"].astype(int).astype(str) + ", " + bands.astype(str)
X_train, X_test, y_train, y_test, groups, groups_test = train_test_split(
    X, y / y.std(), people, test_size=0.3, stratify=people, random_state=0
)
model = make_pipeline(StandardScaler(), Ridge(alpha=1.0)).fit(X_train, y_train)
print(groups.value_counts().to_string())

# %%
# For all test people together
# ----------------------------
# The property is minus the mean loss on the test people.  Positive: with the group the model is
# better.  The diamonds are measured: the model is fitted again without the group.


def attribute(X, y):
    """Predicted and measured effect of every group on minus the mean loss on X, y."""
    grouped = GroupAttributor(InfluenceFunction(damping=0), property="mean_neg_loss")
    predicted = grouped.fit(model, X_train, y_train, groups=groups).score(X, y)[0]
    truth = leave_group_out(
        model, X_train, y_train, X, y, groups, property="mean_neg_loss", n_repeats=1
    )
    measured = pd.Series(truth.scores[0], index=truth.names)[grouped.group_names_]
    return grouped.group_names_, predicted, measured.to_numpy()


names, predicted, measured = attribute(X_test, y_test)
figure, ax = plt.subplots(figsize=(8, 3.2), layout="constrained")
GroupScoresDisplay(
    predicted,
    names,
    measured,
    label="effect of the group on minus the mean test loss",
    sizes=groups.value_counts()[names],
).plot(ax=ax)
plt.show()

# %%
# Who learns from whom?
# ---------------------
# The same for each group of test people by itself.

tables = {}
for name in names:
    mine = (groups_test == name).to_numpy()
    tables[name] = attribute(X_test[mine], y_test[mine])
predicted, measured = (np.array([tables[name][k] for name in names]) for k in (1, 2))

figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), sharey=True, layout="constrained")
limit = np.abs(measured).max()
for ax, values, title in zip(axes, (predicted, measured), ("predicted", "measured"), strict=True):
    image = ax.imshow(values, cmap="PuOr", vmin=-limit, vmax=limit)
    for (i, j), value in np.ndenumerate(values):
        color = "white" if abs(value) > 0.6 * limit else "black"
        ax.text(j, i, f"{1000 * value:+.0f}", ha="center", va="center", color=color, fontsize=8)
    ax.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")
    ax.set(title=f"{title} (thousandths)", xlabel="left out of training")
axes[0].set_yticks(range(len(names)), names)
axes[0].set_ylabel("tested on")
figure.colorbar(image, ax=axes, label="effect on minus the mean loss")
plt.show()

correlation = np.corrcoef(predicted.ravel(), measured.ravel())[0, 1]
slope = (predicted * measured).sum() / (measured**2).sum()
print(f"predicted against measured: correlation {correlation:.3f}, slope {slope:.2f}")

# %%
# What to take home
# -----------------
# Ranks and signs mostly hold, sizes do not: on the whole the sum of scores is less than half of the
# measured effect, and two small effects of the first picture have the wrong sign.  Taking a tenth
# or a quarter of the rows away changes the curvature too, which a sum of scores, each of one row,
# cannot know.  What stands out in both maps is the same: people under 40 are learned from people of
# their own group, and the model is the worse for them without it.  Use the sums to choose which
# groups to check, and check by training again.
