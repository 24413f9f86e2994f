"""How near are predicted removals to refits: first order, leverage, one Newton step, and its bound?

Single rows and random groups are removed from linear models on tables; scikit-learn refits each of
them.  Slope and Spearman correlation are those of the change of the mean log-likelihood, or of the
mean prediction, over the removals; the bound is that of ``predict_without(refit=False)``, on
probabilities or predictions.
"""

import numpy as np
from scipy.stats import spearmanr
from sklearn.base import clone, is_classifier

from benchmarks.harness import Size, Study, Table
from benchmarks.harness.tables import short
from benchmarks.problems.linear_tables import CLASSES, MODELS, NUMBERS, split
from influencekit import InfluenceFunction
from influencekit.groups import GroupAttributor

ORDERS = ("first", "leverage", "newton")


def outputs(model, Q):
    return model.predict_proba(Q) if is_classifier(model) else model.predict(Q)


def quality(model, Q, u):
    p = outputs(model, Q)
    return np.log(p[np.arange(len(u)), u]).mean() if is_classifier(model) else p.mean()


def removals(kind, scores, n, n_removals, rng):
    """Sets of rows: single ones, random groups of a share, or those with the highest scores."""
    if kind == "rows":
        return [[int(j)] for j in rng.choice(n, min(n, n_removals), replace=False)]
    if kind == "helpful":
        return [np.argsort(-scores)[: max(1, n * s // 100)] for s in (1, 2, 5, 10)]
    size = max(1, int(n * kind))
    return [rng.choice(n, size, replace=False) for _ in range(n_removals)]


def row(table, model, prepared, kind, n_train, n_query, n_removals):
    rng, model = np.random.default_rng(0), MODELS[model]
    X, y, Q, u = split(table, prepared, n_train, n_query, rng)
    if is_classifier(model):
        y, u = np.searchsorted(np.unique(y), y), np.searchsorted(np.unique(y), u)
    fitted = clone(model).fit(X, y)
    explained = "auto" if is_classifier(model) else "prediction"
    base = InfluenceFunction(output=explained).fit(fitted, X, y)
    sets = removals(kind, base.score(Q, u).mean(0), len(X), n_removals, rng)
    sets = [s for s in sets if not is_classifier(model)
            or len(np.unique(np.delete(y, s))) == len(np.unique(y))]  # fmt: skip
    found, refits, bounds = {order: [] for order in ORDERS}, [], []
    attributors = {o: InfluenceFunction(output=explained, removal_order=o).fit(fitted, X, y)
                   for o in ORDERS}  # fmt: skip
    for rows in sets:
        without = clone(model).fit(np.delete(X, rows, 0), np.delete(y, rows))
        refits.append(quality(fitted, Q, u) - quality(without, Q, u))
        step = base.predict_without(rows, Q, refit=False)
        error = np.abs(step.outputs - outputs(without, Q)).max()
        effect = np.abs(outputs(without, Q) - outputs(fitted, Q)).max()
        again = base.predict_without(rows, Q).refitted
        bounds.append([float(step.bound.max()), float(error), float(effect), float(again)])
        for order, attributor in attributors.items():
            labels = np.full(len(X), 0)
            labels[rows] = 1
            group = attributor.fitted_[0]
            found[order].append(removed(attributor, group, rows, Q, u))
    refits, quick = np.array(refits), np.array(bounds)
    return {"n": len(sets), **summary(found, refits), **of_bounds(quick)}
