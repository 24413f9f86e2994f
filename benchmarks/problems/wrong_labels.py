"""Tables, images and text whose labels are flipped, with a linear model, a net, boosting."""

from __future__ import annotations

from functools import cache, partial

from sklearn.ensemble import HistGradientBoostingClassifier

from benchmarks.problems import data
from benchmarks.problems.labels import linear, net
from benchmarks.problems.registry import Spec, most_for_test, problem


def boosting(X, y):
    return HistGradientBoostingClassifier(max_iter=40, max_leaf_nodes=8, random_state=0)


READ = {f"acs-{state}": partial(data.acs_state, state) for state in data.STATES}
READ |= {"digits": data.digits, "mnist": data.mnist_14, "cifar2": data.cifar2_8}
READ |= {"sst2": cache(data.sst2_100)}
RATES = {"digits": 0.05, "mnist": 0.05, "cifar2": 0.01}

for name, read in READ.items():
    models = {
        "linear": linear,
        "net": net(12, RATES.get(name, 0.02) * 2, 128),
        "boosting": boosting,
    }
    for kind, model in models.items():
        problem(f"wrong/{name}-{kind}", Spec(most_for_test(read), model, 1000, 1000))
