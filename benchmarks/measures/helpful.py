"""Training rows by how much they help test rows, by method and choice of λ."""

from __future__ import annotations

from influencekit import TRAK, GradDot, InfluenceFunction, SurrogateLambdaSearchCV

TINY = 1e-8


def is_right(outputs, targets):
    """One where the class with the largest logit is the label; a single logit is of class 1."""
    one = outputs.shape[-1] == 1
    found = (outputs[..., 0] > 0).long() if one else outputs.argmax(-1)
    return (found == targets.reshape(found.shape)).to(outputs.dtype)


def total_scores(net, problem, dim, seed):
    """Sum over the test rows of each training row's scores, by method and choice of λ."""
    options = {"projection_dim": dim, "random_state": seed}
    methods = {"IF fisher": InfluenceFunction("fisher", **options),
               "IF ggn": InfluenceFunction("ggn", **options), "TRAK": TRAK(**options)}  # fmt: skip
    totals = {"GradDot (λ -> inf)": GradDot().fit(net, *problem.train)}
    totals = {name: fitted.score(*problem.test).sum(0) for name, fitted in totals.items()}
    for name, attributor in methods.items():
        fitted = attributor.fit(net, *problem.train)
        totals[f"{name}, default"] = fitted.score(*problem.test).sum(0)
        search = SurrogateLambdaSearchCV(attributor, criterion="xi", random_state=seed).fit(
            net, *problem.train
        )
        totals[f"{name}, ξ = 0.5"] = search.score(*problem.test).sum(0)
        fitted.set_damping(TINY * float(fitted.eigenvalues_.max()))
        totals[f"{name}, λ -> 0"] = fitted.score(*problem.test).sum(0)
    return totals
