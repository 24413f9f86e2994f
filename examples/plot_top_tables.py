"""
Which patients stand behind this diagnosis? Top rows of a table
===============================================================

A pipeline calls a tumor benign or malignant from thirty measurements.  For the patient that it is
least sure of: which patients of the training data speak for the answer, which against it, and where
do they stand?
"""

# %%
# A plain scikit-learn pipeline
# -----------------------------
# A DataFrame goes in, with its names; nothing but scikit-learn is used for the model.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from influencekit import InfluenceFunction
from influencekit.displays import TopExamplesDisplay

cancer = load_breast_cancer(as_frame=True)
diagnosis = cancer.target.map({0: "malignant", 1: "benign"})
X = cancer.data.set_axis([f"P{i:03d}" for i in range(len(diagnosis))])
diagnosis.index = X.index
X_train, X_test, y_train, y_test = train_test_split(
    X, diagnosis, test_size=0.3, stratify=diagnosis, random_state=0
)
model = make_pipeline(
    StandardScaler(), MLPClassifier((16,), alpha=1.0, max_iter=1000, random_state=0)
).fit(X_train, y_train)
print(f"accuracy {model.score(X_test, y_test):.3f} on {len(X_test)} patients")

# %%
# The patient that the model is least sure of
# -------------------------------------------
# Scores as a DataFrame: a row for each patient asked about, a column for each training patient,
# under the names that they came with.

probability = model.predict_proba(X_test).max(1)
unsure = np.argsort(probability)[:1]
influence = InfluenceFunction().set_output(transform="pandas").fit(model, X_train, y_train)
scores = influence.transform(X_test.iloc[unsure])
answer = model.predict(X_test.iloc[unsure])[0]
print(f"{X_test.index[unsure[0]]}: {answer} with probability {probability[unsure[0]]:.2f}, "
      f"in truth {y_test.iloc[unsure[0]]}")  # fmt: skip
scores.round(4)

# %%
# Proponents and opponents, as a table
# ------------------------------------
# Without ``y_test`` the model's own answer is explained.  Positive scores speak for it.

display = TopExamplesDisplay.from_estimator(
    influence, X_train, X_test, y_train=y_train, rows=unsure, k=4, plot=False
)
table = display.to_frame()
table[["train", "score", "label", "mean radius", "mean texture", "worst area"]].round(3)

# %%
# And as bars

display.plot()
plt.show()

# %%
# Where do they lie?
# ------------------
# All training patients in the plane of the first two principal components of the standardized
# table; the larger a mark, the larger the score.  A few outliers are beyond the edges.

plane = make_pipeline(StandardScaler(), PCA(2)).fit(X_train)
places, patient = plane.transform(X_train), plane.transform(X_test.iloc[unsure])[0]
strength = scores.to_numpy()[0]
figure, ax = plt.subplots(figsize=(7.5, 5), layout="constrained")
ax.scatter(*places.T, s=5, color="lightgrey", label="training patients")
sides = (("proponents", strength > 0, "#0072B2", "o"), ("opponents", strength < 0, "#D55E00", "X"))
for name, side, color, marker in sides:
    sizes = 250 * np.abs(strength[side]) / np.abs(strength).max()
    ax.scatter(*places[side].T, s=sizes, color=color, marker=marker, alpha=0.6, lw=0)
    ax.scatter([], [], s=40, color=color, marker=marker, label=f"{name} of “{answer}”")
ax.scatter(*patient, s=200, marker="*", color="black", edgecolor="white", label="the patient")
sick = (y_train == "malignant").to_numpy()
for name, rows in (("malignant", sick), ("benign", ~sick)):
    ax.text(np.median(places[rows, 0]), -5.2, name, ha="center", fontsize="large")
ax.set(xlim=(-6, 9), ylim=(-6, 7), xlabel="first component", ylabel="second component")
ax.legend(fontsize="small")
plt.show()

# %%
# What to take home
# -----------------
# The patient stands between the two clouds, and so do most of the rows that matter: ten of the 398
# training patients carry half of all the score.  That is what a score is good for here: whoever
# doubts the answer has a handful of records to read.  It says what the *model* learned from a row,
# not that two patients have one disease.
