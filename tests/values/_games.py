"""Values by their definitions, over all subsets of a few rows, in plain numpy."""

import math
from itertools import combinations, permutations

import numpy as np


def subsets(n):
    """All subsets as bool masks, (2 ** n, n); the empty one first."""
    return np.array([[(k >> i) & 1 for i in range(n)] for k in range(2**n)], dtype=bool)


def number(mask):
    return int((mask * 2 ** np.arange(len(mask))).sum())


def semivalue(v, n, weight):
    """Sum over S without i of ``weight(|S|) (v(S + i) - v(S))``; v (2 ** n, n_query)."""
    found = np.zeros((v.shape[1], n))
    for i in range(n):
        others = [j for j in range(n) if j != i]
        for size in range(n):
            for chosen in combinations(others, size):
                k = sum(2**j for j in chosen)
                found[:, i] += weight(size) * (v[k + 2**i] - v[k])
    return found


def shapley(v, n):
    return semivalue(v, n, lambda s: 1 / (n * math.comb(n - 1, s)))


def banzhaf(v, n):
    return semivalue(v, n, lambda s: 0.5 ** (n - 1))


def beta_shapley(v, n, a, b):
    """By the integral of ``t^s (1 - t)^(n - 1 - s)`` under a Beta distribution of ``t``."""

    def weight(s):
        log = math.lgamma(s + b) + math.lgamma(n - 1 - s + a) - math.lgamma(n - 1 + a + b)
        return math.exp(log + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b))

    return semivalue(v, n, weight)


def all_orders(n):
    """The full set, then the growing subsets of every order, without the empty and full ones."""
    rows = [np.ones(n, dtype=bool)]
    for order in permutations(range(n)):
        for size in range(1, n):
            mask = np.zeros(n, dtype=bool)
            mask[list(order[:size])] = True
            rows.append(mask)
    return np.array(rows)


def all_pairs(n):
    """The full set, then every subset with its complement, every size equally often."""
    counts = [math.comb(n, size) for size in range(1, n)]
    rows = [np.ones(n, dtype=bool)]
    for size, count in zip(range(1, n), counts, strict=True):
        for chosen in combinations(range(n), size):
            mask = np.zeros(n, dtype=bool)
            mask[list(chosen)] = True
            rows += [mask, ~mask] * (math.lcm(*counts) // count)
    return np.array(rows)
