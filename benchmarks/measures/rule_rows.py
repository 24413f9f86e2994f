"""What ``studies/damping_rules.py`` measures of a setting: curves over the damping."""

from __future__ import annotations

import numpy as np
from sklearn.base import clone

from benchmarks.measures import damping_rules as quantities
from benchmarks.measures.lds import Halves, halves
from influencekit import TRAK, InfluenceFunction, retrain_on_subsets
from influencekit.metrics import PreparedOutputs

N_REPORT, N_VAL, N_XI, N_COSINE, N_FEW = 100, 60, 200, 60, 16
WARM_SHARE = 0.25


def continued(model, share: float):
    """Unfitted net whose initial weights are the trained ones, for a share of the epochs."""
    net = clone(model)
    state = {k: v.detach().clone() for k, v in model.module_.state_dict().items()}
    return net.set_params(module__state=state, max_epochs=max(1, round(share * model.max_epochs)))


def attributors(more: dict, seed: int, curvatures):
    """Name, projection and unfitted attributor of every cell of a setting."""
    for dim in more["dims"]:
        for name in ("fisher", "ggn", "ekfac"):
            exact = dim is None and name == "ggn" and not more["exact_ggn"]
            if name not in curvatures or exact or (name == "ekfac" and dim is not None):
                continue
            yield name, dim, InfluenceFunction(name, projection_dim=dim, random_state=seed)
        if "trak" in curvatures:
            yield "trak", dim, TRAK(projection_dim=dim, random_state=seed)


def rows(problem, seed, n_rows, n_subsets, n_repeats, n_grid, curvatures) -> list[dict]:
    """A row for each curvature and projection."""
    n_query = N_REPORT + N_VAL
    truth = halves(problem, seed, n_subsets, n_repeats, _output(problem), n_rows, n_query)
    spec, warm = truth.problem.spec, None
    more = spec.more
    if spec.recipe:
        net = continued(truth.model, WARM_SHARE)
        warm = retrain_on_subsets(
            net, *truth.problem.data, masks=truth.masks[:N_FEW], output=_output(problem),
            random_state=seed,
        ).outputs  # fmt: skip
    return [
        {**_row(truth, warm, name, unfitted, n_grid), "curvature": name, "dim": dim,
         "half": more["half"], "n_subsets": n_subsets}
        for name, dim, unfitted in attributors(more, seed, curvatures)
    ]  # fmt: skip


def _output(problem: str) -> str:
    return "prediction" if problem in ("concrete-sgd", "diabetes-adam") else "margin"


def _row(truth: Halves, warm, name: str, unfitted, n_grid: int) -> dict:
    problem = truth.problem
    fitted = unfitted.fit(truth.model, *problem.train)
    path = fitted.damping_path(*problem.test)
    grid = spectral_grid_of(path, n_grid)
    sums = path.subset_sums(truth.masks).at(grid)
    report, val = slice(0, N_REPORT), slice(N_REPORT, N_REPORT + N_VAL)

    def curve(outputs, queries, subsets):
        prepared = PreparedOutputs(outputs[subsets][..., queries])
        return np.nanmean(prepared.correlations(sums[:, queries, subsets]), axis=1).tolist()

    def convert(outputs):
        """Negative losses from margins or predictions; TRAK explains the output itself."""
        if name == "trak":
            return outputs
        if problem.spec.classifies:
            return -np.logaddexp(0, -outputs)
        return -((outputs - np.asarray(problem.y_test).reshape(-1)) ** 2)

    outputs, everything, few = convert(truth.outputs), slice(None), slice(0, N_FEW)
    row = {"grid": grid.tolist(), "default": float(fitted.damping_), "n": len(problem.X),
           "p": int(fitted.task_.n_parameters), "ceiling": truth.ceiling,
           "n_outputs": 9 if problem.name.startswith(("digits", "mnist")) else 1}  # fmt: skip
    row["lds"] = curve(outputs, report, everything)
    row["lds_rest"] = curve(outputs, report, slice(N_FEW, None))
    once = outputs[:, :1]
    row["few16"], row["few8"] = curve(once, val, few), curve(once, val, slice(0, N_FEW // 2))
    if warm is not None:
        row["warm16"] = curve(convert(warm), val, few)
        row["warm8"] = curve(convert(warm), val, slice(0, N_FEW // 2))
    row["test"] = quantities.moments(path, grid, report)
    rows = np.linspace(0, len(problem.X) - 1, N_XI).round().astype(int)
    own = fitted.damping_path(problem.X[rows], problem.y[rows])
    row["train"] = quantities.moments(own, grid)
    rows = rows[:: -(-N_XI // N_COSINE)]
    own, coarse = fitted.damping_path(problem.X[rows], problem.y[rows]), grid[::3]
    for key, values in quantities.cosines(own, coarse, grid[-1] / 10).items():
        row["train"][key] = np.interp(np.log(grid), np.log(coarse), values).tolist()
    row |= quantities.dimensions(path.spectrum, grid)
    return row | quantities.horizon(problem, truth.model)


def spectral_grid_of(path, size: int) -> np.ndarray:
    return np.geomspace(1e-8, 10, size) * float(path.spectrum.eigenvalues.max())


def with_traces(rows: list[dict]) -> list[dict]:
    """Rows with the trace of their setting's Gauss-Newton matrix."""
    traces = {}
    for row in rows:
        if row["curvature"] == "ggn":
            traces.setdefault((row["problem"], row["seed"]), row["trace"])
    return [
        {**row, "ggn_trace": traces.get((row["problem"], row["seed"]), row["trace"])}
        for row in rows
    ]
