"""
Can a service answer without the training data? Save, serve, update
===================================================================

A model is in use, and its answers are to be explained where the training data are not at hand.  An
index keeps a few numbers for each training row.  How many numbers are enough, what does rounding
cost, and what happens when rows come and go?
"""

# %%
# A model, and exact scores
# -------------------------
# A small network of scikit-learn reads handwritten digits.  The index is compared with the scores
# of the whole attributor.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import spearmanr
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from influencekit import AttributionIndex, InfluenceFunction
from influencekit.index import load, save

X, y = load_digits(return_X_y=True)
X = X / 16
X_train, y_train, X_test, y_test = X[:500], y[:500], X[600:620], y[600:620]
model = MLPClassifier((8,), alpha=0.1, max_iter=1000, random_state=0).fit(X_train, y_train)
influence = InfluenceFunction().fit(model, X_train, y_train)
exact = influence.score(X_test, y_test)

# %%
# Save and load
# -------------
# ``save`` writes everything that was learned into a folder of arrays and one JSON file.  Nothing is
# pickled, so a folder from elsewhere cannot run code.  The loaded attributor gives the same bits.

folder = Path(tempfile.mkdtemp())
save(influence, folder / "influence")
same = load(folder / "influence", model)
print("the same bits:", np.array_equal(same.score(X_test, y_test), exact))

# %%
# An index: how many numbers a row?
# ---------------------------------
# A loaded attributor still holds the training data.  An index does not: it has ``projection_dim``
# numbers for each row, in 32, 16 or 8 bits.


def index_of(dim, dtype):
    """A fitted index, and how its order of rows agrees with that of the exact scores."""
    attributor = InfluenceFunction("ggn", projection_dim=dim, random_state=0)
    index = AttributionIndex(attributor, folder / f"{dim}-{dtype}", dtype=dtype)
    scores = index.fit(model, X_train, y_train).score(X_test, y_test)
    return index, np.mean([spearmanr(a, b)[0] for a, b in zip(scores, exact, strict=True)])


dims = [32, 64, 128, 256]
_, ax = plt.subplots(figsize=(6.5, 4), layout="constrained")
for dtype, marker in (("float32", "o"), ("int8", "s")):
    found = [index_of(dim, dtype) for dim in dims]
    ax.plot(
        [index.bytes_per_row_ for index, _ in found],
        [agreement for _, agreement in found],
        marker=marker,
        label=f"{dtype}, {dims[0]} to {dims[-1]} numbers",
    )
ax.set(xscale="log", xlabel="bytes for each training row", ylim=(0, 1))
ax.set_ylabel("rank correlation with the exact scores")
ax.xaxis.set_major_formatter("{x:g}")
ax.xaxis.set_minor_formatter("")
ax.legend()
plt.show()

# %%
# Answer a query
# --------------
# The service opens the folder and has the model; it never sees the training rows.
# ``examples/serve_index.py`` does this with FastAPI.

opened = AttributionIndex.open(folder / "256-int8", model)
rows, scores = opened.top_k(X_test[:1], y_test[:1], k=5)
figure, axes = plt.subplots(1, 6, figsize=(9, 2), layout="constrained")
axes[0].imshow(X_test[0].reshape(8, 8), cmap="gray_r")
axes[0].set_title(f"query\nlabel {y_test[0]}", fontsize="medium")
for ax, row, score in zip(axes[1:], rows[0], scores[0], strict=True):
    ax.imshow(X_train[row].reshape(8, 8), cmap="gray_r")
    ax.set_title(f"row {row}, {score:+.3f}\nlabel {y_train[row]}", fontsize="medium")
for ax in axes:
    ax.set(xticks=[], yticks=[])
plt.show()

# %%
# Rows come and go
# ----------------
# New rows are scored with the curvature of the build.  A row that is removed is not found again.
# The new rows come first here: the model has not learned from them, so their gradients are larger.

opened.add_rows(X[500:600], y[500:600])
opened.remove_rows(rows[0, :2])
after, _ = opened.top_k(X_test[:1], y_test[:1], k=5)
print(f"{opened.n_train_} rows; before {rows[0].tolist()}, after {after[0].tolist()}")

# %%
# What to take home
# -----------------
# Give an index as many numbers as you can afford: the number of dimensions costs accuracy, and the
# bits cost next to nothing, so 8 bits and four times the dimensions are the better use of the same
# bytes.  Rows can be added and removed in place.  After the model was trained further, call
# ``refresh``: it measures whether the old rows may stay.
