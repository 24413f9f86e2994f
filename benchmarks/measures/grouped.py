"""Groupers, and attributors of groups, by name."""

from __future__ import annotations

from influencekit import TRAK, GradDot, InfluenceFunction
from influencekit.groups import GroupAttributor, KMeansGrouper, RandomGrouper

GROUPERS = {
    "random": lambda k, seed: RandomGrouper(k, random_state=seed),
    "k-means, inputs": lambda k, seed: KMeansGrouper(k, features="inputs", random_state=seed),
    "k-means, gradients": lambda k, seed: KMeansGrouper(k, random_state=seed),
}


#: Dampings of the group forms: one number for every size and method, or chosen by each.
DAMPINGS = {"0.01": 1e-2, "auto": "auto"}


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


def by_damping(seed, dim):
    """Fisher and TRAK, of points and of groups, at each damping."""
    found = {}
    for name, damping in DAMPINGS.items():
        options = {"damping": damping, "projection_dim": dim, "random_state": seed}
        both = {"Fisher": InfluenceFunction("fisher", **options), "TRAK": TRAK(**options)}
        for method, inside in both.items():
            found[f"{method}, points, λ {name}"] = GroupAttributor(inside)
            for form in ("sum", "mean"):
                grouped = GroupAttributor(inside, curvature="groups", fisher_form=form)
                found[f"{method}, groups, {form.upper()}, λ {name}"] = grouped
    return found
