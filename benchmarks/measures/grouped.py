"""Groupers, and attributors of groups, by name."""

from __future__ import annotations

from influencekit import GradDot, InfluenceFunction
from influencekit.groups import GroupAttributor, KMeansGrouper, RandomGrouper

GROUPERS = {
    "random": lambda k, seed: RandomGrouper(k, random_state=seed),
    "k-means, inputs": lambda k, seed: KMeansGrouper(k, features="inputs", random_state=seed),
    "k-means, gradients": lambda k, seed: KMeansGrouper(k, random_state=seed),
}


def attributors(seed, dim):
    options, fisher = {"projection_dim": dim, "random_state": seed}, InfluenceFunction("fisher")
    grouped = {"curvature": "groups"}
    return {
        "GradDot, points": GroupAttributor(GradDot()),
        "GGN, points": GroupAttributor(InfluenceFunction("ggn", **options)),
        "Fisher, points": GroupAttributor(InfluenceFunction("fisher", **options)),
        "Fisher, groups, SUM": GroupAttributor(fisher, fisher_form="sum", **grouped),
        "Fisher, groups, MEAN": GroupAttributor(fisher, fisher_form="mean", **grouped),
    }
