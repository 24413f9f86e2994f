"""
Which people are behind a gap? ACSIncome, from the model to the groups
=======================================================================

A net predicts who earns more than 50,000 dollars from ten answers of the American Community Survey
(Ding et al., *Retiring Adult*, NeurIPS 2021, arXiv 2108.04884; through folktables).  It gives men
a higher probability than women.  Which groups of people in its *training data* make that gap wide,
and which hold it down?  This page asks, and then checks the answers by training again without
those people.

The table is read from the folder that ``INFLUENCEKIT_DATA`` names, or fetched through the
folktables package into ``~/influencekit_data`` (``pip install folktables``).
"""

# %%
# The data and a model
# --------------------
# People of Massachusetts; categories become dummy columns, numbers are standardized.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from sklearn.compose import make_column_transformer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from skorch import NeuralNetClassifier
from torch import nn

from influencekit import InfluenceFunction
from influencekit.datasets import fetch_acs_income
from influencekit.displays import GroupScoresDisplay
from influencekit.groups import DemographicParityDifference, GroupAttributor, leave_group_out

N_PEOPLE = 8000


class Net(nn.Module):
    """One hidden layer."""

    def __init__(self, n_inputs=1, width=32):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(n_inputs, width), nn.ReLU(), nn.Linear(width, 2))

    def forward(self, X):
        return self.layers(X)


survey = fetch_acs_income("MA")
rows = np.random.RandomState(0).permutation(len(survey.target))[:N_PEOPLE]
people = survey.data.iloc[rows].reset_index(drop=True)
rich = survey.target.to_numpy()[rows].astype(np.int64)
train, test, y_train, y_test = train_test_split(people, rich, test_size=0.25, random_state=0)
train, test = train.reset_index(drop=True), test.reset_index(drop=True)

encode = make_column_transformer(
    (
        OneHotEncoder(handle_unknown="ignore", sparse_output=False, min_frequency=20),
        survey.categorical_features,
    ),
    remainder=StandardScaler(),
)
n_inputs = encode.fit(train).transform(train[:1]).shape[1]
net = NeuralNetClassifier(
    Net,
    module__n_inputs=n_inputs,
    criterion=nn.CrossEntropyLoss,
    optimizer__weight_decay=1e-3,
    optimizer__momentum=0.9,
    lr=0.02,
    max_epochs=20,
    batch_size=128,
    iterator_train__shuffle=True,
    train_split=None,
    verbose=0,
)
torch.manual_seed(0)
model = make_pipeline(encode, FunctionTransformer(np.float32), net).fit(train, y_train)
print(f"{len(train):,} people to train, accuracy {model.score(test, y_test):.3f} on {len(test):,}")

# %%
# The gap
# -------
# The difference between men and women in the mean predicted probability of earning more than 50,000
# dollars.  A probability, not a decision, so that it changes smoothly with the model.

sex = test["SEX"].astype(int).map({1: "man", 2: "woman"}).to_numpy()
gap = DemographicParityDifference(sex)
probability = model.predict_proba(test)[:, 1]
means = {label: probability[sex == label].mean() for label in ("man", "woman")}
labels = {label: y_test[sex == label].mean() for label in ("man", "woman")}
print("mean predicted probability:", {k: round(float(v), 3) for k, v in means.items()})
print("share in the data:         ", {k: round(float(v), 3) for k, v in labels.items()})

# %%
# Groups of training people
# -------------------------
# Age band, race and kind of occupation, crossed.  The bands are coarse: the effect of a few people
# cannot be told from the noise of training.

age = np.where(train["AGEP"].astype(float) < 40, "under 40", "40 and over")
race = np.where(train["RAC1P"].astype(int) == 1, "white", "other race")
work = pd.cut(
    train["OCCP"].astype(float),
    [0, 3550, 5950, 10000],
    labels=["managers, professionals", "services, sales, office", "manual, other"],
).astype(str)
groups = (work + "; " + race + ", " + age).to_numpy()
names, sizes = np.unique(groups, return_counts=True)
print(f"{len(names)} groups of {sizes.min()} to {sizes.max()} people")

# %%
# Which groups widen the gap?
# ---------------------------
# The influence function sums over the people of a group, exactly.  A positive score marks a group
# without which the gap is predicted to be *smaller*.

grouped = GroupAttributor(InfluenceFunction(projection_dim=1024, random_state=0), property=gap)
grouped.fit(model, train, y_train, groups=groups)
predicted = pd.Series(grouped.score(test, y_test)[0], index=grouped.group_names_)
print(f"gap {grouped.property_value_:.3f}")
print(predicted.sort_values().round(4).to_string())

# %%
# Check the claims by training without them
# -----------------------------------------
# Each group is left out in ten trainings with other seeds; beside them stands the full model.

truth = leave_group_out(
    model, train, y_train, test, y_test, groups, property=gap, n_repeats=10, random_state=0
)
measured = pd.Series(truth.scores[0], index=truth.names)[predicted.index]
error = pd.Series(truth.scores_se[0], index=truth.names)[predicted.index]
table = pd.DataFrame(
    {
        "people": pd.Series(truth.sizes, index=truth.names),
        "predicted": predicted,
        "measured": measured,
        "standard error": error,
        "sign held": np.sign(predicted) == np.sign(measured),
        "beyond noise": measured.abs() > 2 * error,
    }
).sort_values("predicted", ascending=False)
print(table.round(4).to_string())

display = GroupScoresDisplay(
    predicted, predicted.index, measured, error,
    label="effect on the gap (positive: the group widens it)",
).plot()  # fmt: skip
display.figure_.set_size_inches(8.5, 5)
display.figure_.suptitle("Whose training data widens the gap between men and women?")
plt.show()

# %%
# What held
# ---------
held, resolved = int(table["sign held"].sum()), int(table["beyond noise"].sum())
right = int((table["sign held"] & table["beyond noise"]).sum())
print(f"{held} of {len(table)} signs held; {resolved} effects are beyond the noise of training,")
print(f"and {right} of those have the predicted sign.")
print(f"Rank correlation of predicted and measured: {predicted.corr(measured, 'spearman'):.2f}")

# %%
# What to take home
# -----------------
# Two groups of nearly a thousand people each have an effect that ten retrainings can tell from
# noise, and the scores had both signs right and both sizes too small by half or more.  All other
# claims are smaller than the noise between two trainings: not wrong, but not known, whatever their
# bars say.  To settle them takes more seeds, or a convex model, which has no such noise: the
# notebook on the same survey has one.
#
# Read a group's score as what *this recipe* learns from those rows, not as what the people did.
# And a smaller gap is not by itself a better model: compare with the share in the data above.
