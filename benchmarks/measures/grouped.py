"""Groupers, and attributors of groups, by name."""

from __future__ import annotations

from influencekit import TRAK, GradDot, InfluenceFunction
from influencekit.groups import GroupAttributor, KMeansGrouper, RandomGrouper

GROUPERS = {
    "random": lambda k, seed: RandomGrouper(k, random_state=seed),
    "k-means, inputs": lambda k, seed: KMeansGrouper(k, features="inputs", random_state=seed),
    "k-means, gradients": lambda k, seed: KMeansGrouper(k, random_state=seed),
}


#: Dampings of the group forms: one fixed number for every size and method, or chosen by each.
DAMPINGS = {"0.01": 1e-2, "auto": "auto"}


def attributors(seed, dim):
    options, grouped = {"projection_dim": dim, "random_state": seed}, {"curvature": "groups"}
    found = {
        "GradDot, points": GroupAttributor(GradDot()),
        "GGN, points": GroupAttributor(InfluenceFunction("ggn", **options)),
        "Fisher, points": GroupAttributor(InfluenceFunction("fisher", **options)),
        "TRAK, points": GroupAttributor(TRAK(**options)),
    }
    for name, damping in DAMPINGS.items():
        fisher = InfluenceFunction("fisher", damping, **options)
        trak = TRAK(damping, **options)
        for form in ("sum", "mean"):
            end = f"groups, {form.upper()}, λ {name}"
            found[f"Fisher, {end}"] = GroupAttributor(fisher, fisher_form=form, **grouped)
            found[f"TRAK, {end}"] = GroupAttributor(trak, fisher_form=form, **grouped)
    return found
