"""Boosting and forests refitted with other weights on the same structure, plainly, in float64.

Nothing of the library is used: leaves of scikit-learn's trees come from ``apply``, those of the
histogram trees from a walk over their nodes.
"""

import numpy as np


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def hist_leaves(model, X, categories=None):
    """Node number of each row in every tree of a HistGradientBoosting model, (n, T)."""
    columns = []
    for stage in model._predictors:
        for tree in stage:
            columns.append([_walk(tree, row, categories or {}) for row in X])
    return np.array(columns).T


def _walk(tree, row, categories):
    at = 0
    while not tree.nodes[at]["is_leaf"]:
        node = tree.nodes[at]
        value = row[node["feature_idx"]]
        if np.isnan(value):
            left = bool(node["missing_go_to_left"])
        elif node["is_categorical"]:
            bits = tree.raw_left_cat_bitsets[node["bitset_idx"]]
            left = bool((int(bits[int(value) // 32]) >> (int(value) % 32)) & 1)
        else:
            left = value <= node["num_threshold"]
        at = node["left"] if left else node["right"]
    return at


class Boosting:
    """Refits leaf values for given weights and says the scores of the queries."""

    def __init__(self, leaves, query_leaves, targets, kind, rate, l2=0.0, l1=0.0, **more):
        self.leaves, self.query_leaves, self.Y = leaves, query_leaves, targets
        self.kind, self.rate, self.l2, self.l1 = kind, rate, l2, l1
        self.curvature = more.get("curvature", 1.0)
        self.base = more.get("base")  # function of the weights
        self.masks = more.get("masks")
        self.roots_say_zero = more.get("roots_say_zero", False)  # trees without a split
        self.k = targets.shape[1]

    def scores(self, w):
        """Scores (q, k) with the weights w (n,)."""
        start = self.base(w)
        F = np.tile(start, (len(self.Y), 1))
        Q = np.tile(start, (len(self.query_leaves), 1))
        for stage in range(self.leaves.shape[1] // self.k):
            seen = w if self.masks is None else w * self.masks[stage]
            G, H = self.gradients(F)
            F, Q = F.copy(), Q.copy()
            for k in range(self.k):
                tree = stage * self.k + k
                if self.roots_say_zero and np.ptp(self.leaves[:, tree]) == 0:
                    continue
                for leaf in np.unique(self.leaves[:, tree]):
                    rows = self.leaves[:, tree] == leaf
                    g, h = (seen * G[:, k])[rows].sum(), (seen * H[:, k])[rows].sum()
                    g = np.sign(g) * max(abs(g) - self.l1, 0)
                    value = -self.rate * g / (h + self.l2) if h + self.l2 > 0 else 0.0
                    F[rows, k] += value
                    Q[self.query_leaves[:, tree] == leaf, k] += value
        return Q

    def gradients(self, F):
        if self.kind == "squared":
            return F - self.Y, np.ones_like(F)
        p = softmax(F) if self.kind == "softmax" else 1 / (1 + np.exp(-F))
        return p - self.Y, self.curvature * p * (1 - p)


def neg_loss(kind, scores, targets):
    if kind == "squared":
        return -0.5 * ((scores - targets) ** 2).sum(1)
    if kind == "softmax":
        return np.log((softmax(scores) * targets).sum(1))
    p = 1 / (1 + np.exp(-scores[:, 0]))
    return np.log(np.where(targets[:, 0] == 1, p, 1 - p))


def central_differences(refit, weights, rows, step=1e-4):
    """``w_j ∂f/∂w_j`` of ``refit(weights) -> (q,)`` for some rows, (q, n_rows)."""
    columns = []
    for j in rows:
        up, down = weights.copy(), weights.copy()
        up[j] *= 1 + step
        down[j] *= 1 - step
        columns.append((refit(up) - refit(down)) / (2 * step))
    return np.array(columns).T


def means(kind):
    """Starting score by the weights, as scikit-learn's boosting estimates it."""

    def of(Y):
        def start(w):
            mean = w @ Y / w.sum()
            if kind == "squared":
                return mean
            if kind == "logistic":
                return np.log(mean / (1 - mean))
            return np.log(mean) - np.log(mean).mean()

        return start

    return of
