"""
Which method agrees with further training? Concrete and ACSIncome
==================================================================

Somebody hands over a fitted model and its training data, and nothing else.  *If this model were
trained on, what would each training row change?*  :class:`~influencekit.FurtherTraining`
measures it; gradient methods approximate it at a fraction of the cost.  This page measures which
approximation is right for which amount of further training, on two tables: the strength of
concrete (a regression) and who earns more than 50,000 dollars (people of the American Community
Survey, through folktables).

The set-up follows Wei et al. (NeurIPS 2025, arXiv 2412.03906) with fewer rows, seeds and epochs,
so that the page runs in minutes; ``python -m benchmarks run agreement`` has the larger runs.

The two tables are read from the folder that ``INFLUENCEKIT_DATA`` names, or fetched into
``~/influencekit_data``: Concrete from OpenML, ACSIncome through the folktables package
(``pip install folktables``).
"""

# %%
# Two tables and a net for each
# -----------------------------
# Numbers are standardized, categories become dummy columns: a plain scikit-learn preprocessor. The
# nets have two hidden layers and are trained with SGD.

import warnings

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.compose import make_column_transformer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from skorch import NeuralNetClassifier, NeuralNetRegressor
from torch import nn

from influencekit import FurtherTraining, GradDot, InfluenceFunction, Training, retrain_on_subsets
from influencekit.curvature import ConjugateGradient
from influencekit.datasets import fetch_acs_income, fetch_uci_concrete
from influencekit.displays import AgreementDisplay
from influencekit.exceptions import InfluenceKitWarning
from influencekit.metrics import attribution_agreement

warnings.simplefilter("ignore", InfluenceKitWarning)


class Net(nn.Module):
    """Two hidden layers."""

    def __init__(self, n_inputs=8, n_outputs=1, width=32):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_inputs, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, n_outputs),
        )

    def forward(self, X):
        return self.layers(X)


def concrete():
    X, y = fetch_uci_concrete(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.1, random_state=0)
    scaler, of_target = StandardScaler().fit(X_train), StandardScaler().fit(y_train[:, None])
    X_train, X_test = scaler.transform(X_train), scaler.transform(X_test)
    y_train, y_test = (of_target.transform(y[:, None]) for y in (y_train, y_test))
    X_train, X_test, y_train, y_test = (
        a.astype(np.float32) for a in (X_train, X_test, y_train, y_test)
    )
    torch.manual_seed(0)
    net = NeuralNetRegressor(
        Net, lr=0.1, max_epochs=300, batch_size=128, train_split=None, verbose=0
    ).fit(X_train, y_train)
    return net, X_train, y_train, X_test[:40], y_test[:40]


def acs_income(n_rows=2000):
    data = fetch_acs_income("MA")
    rows = np.random.RandomState(0).permutation(len(data.target))[:n_rows]
    X, y = data.data.iloc[rows], data.target.to_numpy()[rows].astype(np.int64)
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.25, random_state=0)
    encoder = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), data.categorical_features),
        remainder=StandardScaler(),
    )
    X_train = encoder.fit_transform(X_train).astype(np.float32)
    X_test = encoder.transform(X_test).astype(np.float32)
    torch.manual_seed(0)
    net = NeuralNetClassifier(
        Net,
        module__n_inputs=X_train.shape[1],
        module__n_outputs=2,
        criterion=nn.CrossEntropyLoss,
        lr=0.05,
        max_epochs=30,
        batch_size=128,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    ).fit(X_train, y_train)
    print(f"ACSIncome: accuracy {net.score(X_test, y_test):.3f} on {len(y_test)} people")
    return net, X_train, y_train, X_test[:40], y_test[:40]


tables = {"Concrete": concrete(), "ACSIncome": acs_income()}

# %%
# The gold standard, and what is compared with it
# -----------------------------------------------
# Twenty-five rows are left out, one at a time, and the model is trained on for 1, 3 and 10 epochs,
# with several seeds.  All of it runs as one stack of small models.
#
# - ``GradDot``: the first order.  No curvature.
# - Conjugate gradients with the damping of the paper's notebooks, 100 times the mean squared entry
#   of the gradients: an influence function that does not know how long training goes on.
# - *Matched*: damping ``1 / (lr * steps)``, which does know it (SGD only).
# - *Matched, predicted end* also takes the gradients where training leads, without training.
# - *Endpoint*: gradients and curvature after one further training on all data.

HORIZONS = [1, 3, 10]
RATES = {
    ("Concrete", "sgd"): 1e-2,
    ("Concrete", "adam"): 1e-4,
    ("ACSIncome", "sgd"): 5e-3,
    ("ACSIncome", "adam"): 1e-5,
}


def methods(optimizer, lr, mean_square):
    """Name -> function of the number of epochs that makes the attributor."""

    def horizon(epochs, **options):
        training = Training(optimizer, lr=lr, epochs=epochs, batch_size=128)
        further = FurtherTraining(training=training, random_state=1)
        return InfluenceFunction(
            "ggn", projection_dim=1024, random_state=0, further_training=further, **options
        )

    published = InfluenceFunction(ConjugateGradient("ggn", max_iter=50), 100 * mean_square)
    found = {
        "GradDot": lambda epochs: GradDot(),
        "CG, published damping": lambda epochs: published,
        "GGN, endpoint": lambda epochs: horizon(epochs, at="endpoint"),
    }
    if optimizer == "sgd":
        found["GGN, matched"] = lambda epochs: horizon(epochs, damping="matched")
        found["GGN, matched, predicted end"] = lambda epochs: horizon(
            epochs, damping="matched", at="predicted"
        )
    return found


gold, agreement = {}, {}
for (table, optimizer), lr in RATES.items():
    net, X, y, X_test, y_test = tables[table]
    further = FurtherTraining(
        training=Training(optimizer, lr=lr, horizons=HORIZONS, batch_size=128),
        left_out=25,
        n_repeats=3,
        adjust="center",
        random_state=0,
    ).fit(net, X, y)
    measured = gold[table, optimizer] = further.measure(X_test, y_test)
    first = GradDot().fit(net, X, y)
    mean_square = float(np.mean(first.self_influence())) / further.task_.n_parameters
    agreement[table, optimizer] = {
        name: measured.agreement(
            np.stack(
                [
                    measured.pick(make(epochs).fit(net, X, y).score(X_test, y_test))
                    for epochs in HORIZONS
                ]
            )
        )
        for name, make in methods(optimizer, lr, mean_square).items()
    }

# %%
# Cosine against epochs
# ---------------------
# The band is the noise ceiling: what the seeds of the gold standard let any method reach.

figure, axes = plt.subplots(2, 2, figsize=(11, 8), sharex=True, layout="constrained")
for ax, ((table, optimizer), results) in zip(axes.flat, agreement.items(), strict=True):
    AgreementDisplay.from_results(results, ax=ax)
    ax.set_title(f"{table}, {optimizer}")
    print(f"\n{table}, {optimizer}")
    for name, result in results.items():
        print(f"  {name:<28}" + "  ".join(f"{c:.2f}" for c in result.cosine))
    print(f"  {'ceiling':<28}" + "  ".join(f"{c:.2f}" for c in result.cosine_ceiling))

# %%
# Retraining from scratch is another question
# -------------------------------------------
# Further training asks about *this* model.  Retraining from a new random start without a row asks
# about the recipe, and the start itself moves the outputs far more than one row does.  The halves
# of the repeats hardly agree with each other, so nothing can agree with their mean.

net, X, y, X_test, y_test = tables["Concrete"]
rows = np.linspace(0, len(X) - 1, 16).round().astype(int)
masks = np.ones((len(rows), len(X)), dtype=bool)
masks[np.arange(len(rows)), rows] = False
retrained = retrain_on_subsets(
    net, X, y, X_test, y_test, masks=masks, n_repeats=6, random_state=0
).outputs
halves = [-retrained[:, half].mean(1).T for half in (slice(0, 3), slice(3, 6))]
halves = np.stack([half - half.mean(1, keepdims=True) for half in halves])
scores = GradDot().fit(net, X, y).score(X_test, y_test)[:, rows]
scratch = attribution_agreement(halves.mean(0), scores, halves=halves)
print(f"halves of the retrainings agree with cosine {float(np.squeeze(scratch.split_half)):.2f}")
print(f"GradDot agrees with their mean with cosine {float(np.squeeze(scratch.cosine)):.2f}")

# %%
# What to take home
# -----------------
# Read the pictures from left to right.  After one epoch the first order is a good answer and costs
# next to nothing.  On Concrete it fails as training goes on and curvature takes over; on ACSIncome,
# with its smaller rates, ten epochs are still little training.  A damping that knows how long
# training goes on is good from end to end, and gradients at the predicted end add what is missing
# on Concrete.  Both need SGD; for Adam there is no such formula.  And none of this says anything
# about retraining from scratch, where single rows drown in the noise of the start.
