"""Which rule finds the best damping without retraining?  Measures; the rules come after.

    INFLUENCEKIT_DATA=FOLDER python benchmarks/bench_selectors.py --out FILE [--settings NAME ...]
    python benchmarks/selector_rules.py FILE

For every setting (data, model, recipe) and seed the model is retrained on random halves.  For
every curvature and projection one JSON line holds, on a grid of 91 dampings, the linear
datamodeling score (LDS) of 100 test rows and every quantity that a rule could read: the
surrogate indicator and its relatives on training and test rows, effective dimensions, the
agreement with few retrainings and with few short continued trainings.
"""

from __future__ import annotations

import argparse
import json
import os
import warnings
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from selector_settings import SETTINGS, Setting

from influencekit import TRAK, InfluenceFunction, retrain_on_subsets
from influencekit.curvature import CURVATURES
from influencekit.metrics._lds import PreparedOutputs

N_REPORT, N_VAL, N_XI = 100, 60, 200
N_GRID = 91
N_COSINE = 60
FAR = 1e6
N_FEW = 16
WARM_SHARE = 0.25


def quadratic_forms(path, tables: torch.Tensor) -> torch.Tensor:
    """``Σ_k tables[j, k] c_ik²`` of every query, (n_query, n_tables)."""
    if hasattr(path, "query_coordinates"):
        return path.query_coordinates.double().square() @ tables.mT
    parts = [path.spectrum.forms(features, tables) for _, features in path.queries]
    return torch.cat(parts)


def tables_of(spectrum) -> tuple[torch.Tensor, torch.Tensor]:
    """Eigenvalues and the data's shares in the order of the path's coordinates."""
    if hasattr(spectrum, "table"):
        return spectrum.table, spectrum.data_table
    return spectrum.eigenvalues, spectrum.data_eigenvalues


def moments(path, dampings, queries=slice(None)) -> dict:
    """Mean over queries of everything that moments of the spectrum give, each (n_dampings,)."""
    s, d = tables_of(path.spectrum)
    d = d / d.max()
    t0, u0 = quadratic_forms(path, torch.stack([d, torch.ones_like(d)]))[queries].unbind(1)
    rows = []
    for damping in dampings:
        x = damping / (s + damping)
        powers = [d * x, d * x**2, d * x**3, d * x**4, x, x**2]
        t1, t2, t3, t4, u1, u2 = quadratic_forms(path, torch.stack(powers))[queries].unbind(1)
        xi = t2 / (t1 * t3).sqrt()
        pooled = [(t / t0)[t0 > 0].mean() for t in (t1, t2, t3)]
        turn = (t4 / t2 - (t3 / t2).square()).clamp_min(0).sqrt()
        row = {
            "xi": xi.nanmean(),
            "xi_median": xi.nanmedian(),
            "xi_q25": xi.nanquantile(0.25),
            "xi_q75": xi.nanquantile(0.75),
            "xi_pooled": pooled[1] / (pooled[0] * pooled[2]).sqrt(),
            "share1": (t1 / t0).nanmean(),
            "share2": (t2 / t1).nanmean(),
            "share3": (t3 / t2).nanmean(),
            "energy1": (u1 / u0).nanmean(),
            "energy2": (u2 / u1).nanmean(),
            "cos_dot": (t1 / (t0 * t2).sqrt()).nanmean(),
            "cos_next": (t3 / (t2 * t4).sqrt()).nanmean(),
            "turn": turn.nanmean(),
        }
        rows.append([float(value) for value in row.values()])
    return dict(zip(row, np.array(rows).T.tolist(), strict=True))


def cosines(path, dampings, largest: float) -> dict:
    """Mean cosine of queries' scores with those of Grad-Dot, over the training rows."""
    far = path.scores(FAR * largest)
    found: dict = {"cos_scores": [], "cos_centered": []}
    for damping in dampings:
        scores = path.scores(damping)
        for key, shift in (("cos_scores", 0.0), ("cos_centered", 1.0)):
            a = scores - shift * scores.mean(1, keepdims=True)
            b = far - shift * far.mean(1, keepdims=True)
            cosine = (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
            found[key].append(float(np.nanmean(cosine)))
    return found


def dimensions(spectrum, dampings) -> dict:
    """Effective dimensions Σ d/(s + λ) and Σ (d/(s + λ))², traces."""
    s, d = spectrum.eigenvalues, spectrum.data_eigenvalues
    df1 = [float((d / (s + x)).sum()) for x in dampings]
    df2 = [float((d / (s + x)).square().sum()) for x in dampings]
    seen = d > spectrum.tolerance * d.max()
    return {
        "df1": df1,
        "df2": df2,
        "trace": float(d.sum()),
        "square": float(d.square().sum()),
        "largest": float(s.max()),
        "rank": int(seen.sum()),
    }


def attributors(setting: Setting, seed: int):
    """Name, projection and unfitted attributor of every cell of a setting."""
    for dim in setting.dims:
        for name in ("fisher", "ggn", "ekfac"):
            if name not in CURVATURES or (name == "ekfac" and dim is not None):
                continue
            if name == "ggn" and dim is None and not setting.exact_ggn:
                continue
            yield name, dim, InfluenceFunction(name, projection_dim=dim, random_state=seed)
        yield "trak", dim, TRAK(projection_dim=dim, random_state=seed)


def truths(setting: Setting, seed: int, data, cache_dir) -> dict:
    """Outputs of models retrained, and of models trained on for a short time, by output."""
    queries = (data.X_query, data.y_query)
    options = {"cache_dir": cache_dir, "random_state": seed}
    output = "margin" if setting.classifies else "prediction"
    start = perf_counter()
    full = retrain_on_subsets(
        data.model,
        data.X,
        data.y,
        *queries,
        n_subsets=setting.n_subsets,
        n_repeats=setting.n_repeats,
        output=output,
        **options,
    )
    found = {"full": full, "seconds": perf_counter() - start}
    if setting.warm is not None:
        start = perf_counter()
        found["warm"] = retrain_on_subsets(
            setting.warm(data, WARM_SHARE),
            data.X,
            data.y,
            *queries,
            masks=full.masks[:N_FEW],
            output=output,
            **options,
        )
        found["warm_seconds"] = perf_counter() - start
    return found


def as_output(outputs: np.ndarray, kind: str, classifies: bool, targets) -> np.ndarray:
    """Negative losses from margins, or from predictions; or the outputs themselves."""
    if kind == "own":
        return outputs
    if classifies:
        return -np.logaddexp(0, -outputs)
    return -((outputs - np.asarray(targets).reshape(-1)) ** 2)


def evaluate(setting, seed, data, truth, name, dim, unfitted) -> dict:
    """Everything about one cell."""
    start = perf_counter()
    fitted = unfitted.fit(data.model, data.X, data.y)
    path = fitted.damping_path(data.X_query, data.y_query)
    spectrum = path.spectrum
    grid = np.geomspace(1e-8, 10, N_GRID) * float(spectrum.eigenvalues.max())
    kind = "own" if name == "trak" else "neg_loss"
    report, val = slice(0, N_REPORT), slice(N_REPORT, N_REPORT + N_VAL)
    sums = path.subset_sums(truth["full"].masks)
    sums_at = sums.at(grid)

    def convert(outputs):
        return as_output(outputs, kind, setting.classifies, data.y_query)

    def curve(outputs, queries, subsets):
        prepared = PreparedOutputs(outputs[subsets][..., queries])
        values = prepared.correlations(sums_at[:, queries, subsets])
        return np.nanmean(values, axis=1).tolist(), prepared.noise_ceiling

    outputs = convert(truth["full"].outputs)
    everything, few, rest = slice(None), slice(0, N_FEW), slice(N_FEW, None)
    row = {
        "setting": setting.name,
        "seed": seed,
        "curvature": name,
        "dim": dim,
        "grid": grid.tolist(),
        "default": float(fitted.damping_),
        "n": len(data.X),
        "p": int(fitted.task_.n_parameters),
        "accuracy": data.accuracy,
        "n_subset": round(0.5 * len(data.X)),
        "penalty": float(spectrum.problem.penalty.mean()),
        "n_rows": len(spectrum.eigenvalues),
    }
    row["lds"], row["ceiling"] = curve(outputs, report, everything)
    row["lds_rest"], _ = curve(outputs, report, rest)
    once = outputs[:, :1]
    row["few16"], _ = curve(once, val, few)
    row["few8"], _ = curve(once, val, slice(0, N_FEW // 2))
    row["seconds"] = {"retrain": truth["seconds"]}
    if "warm" in truth:
        warm = convert(truth["warm"].outputs)
        row["warm16"], _ = curve(warm, val, few)
        row["warm8"], _ = curve(warm, val, slice(0, N_FEW // 2))
        row["seconds"]["warm"] = truth["warm_seconds"]
    row["test"] = moments(path, grid, report)
    rows = np.linspace(0, len(data.X) - 1, N_XI).round().astype(int)
    row["train"] = moments(fitted.damping_path(data.X[rows], data.y[rows]), grid)
    rows = rows[:: -(-N_XI // N_COSINE)]
    own = fitted.damping_path(data.X[rows], data.y[rows])
    coarse = cosines(own, grid[::3], row["grid"][-1] / 10)
    coarse_log, log = np.log(grid[::3]), np.log(grid)
    row["train"] |= {k: np.interp(log, coarse_log, v).tolist() for k, v in coarse.items()}
    row |= dimensions(spectrum, grid)
    row |= setting.horizon(data)
    row["seconds"]["cell"] = perf_counter() - start
    return row


def main() -> None:
    """Measure all cells that the file does not hold yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON lines, added to")
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS))
    parser.add_argument("--seeds", nargs="+", type=int, default=None)
    parser.add_argument("--cache-dir", default=None)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    done = set()
    if options.out.exists():
        for line in options.out.read_text().splitlines():
            row = json.loads(line)
            done.add((row["setting"], row["seed"], row["curvature"], row["dim"]))
    folder = os.environ.get("INFLUENCEKIT_DATA")
    for name in options.settings:
        setting = SETTINGS[name]
        if setting.needs_data and folder is None:
            print(f"{name} skipped: INFLUENCEKIT_DATA is not set")
            continue
        for seed in options.seeds or range(setting.n_seeds):
            run(setting, seed, folder, options, done)


def run(setting: Setting, seed: int, folder, options, done) -> None:
    """All cells of one setting and seed."""
    cells = [
        cell
        for cell in attributors(setting, seed)
        if (setting.name, seed, cell[0], cell[1]) not in done
    ]
    if not cells:
        return
    torch.manual_seed(seed)
    data = setting.load(folder, seed, N_REPORT + N_VAL)
    truth = truths(setting, seed, data, options.cache_dir)
    for name, dim, unfitted in cells:
        row = evaluate(setting, seed, data, truth, name, dim, unfitted)
        with options.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        best = int(np.argmax(row["lds"]))
        print(
            f"{setting.name:<18}{seed:>2} {name:<7}{dim or '-':>5}  acc {data.accuracy:.2f}  "
            f"retrain {truth['seconds']:5.0f}s  cell {row['seconds']['cell']:4.0f}s  "
            f"best LDS {row['lds'][best]:.3f} at {row['grid'][best]:.1e} "
            f"(xi {row['train']['xi'][best]:.2f}), default "
            f"{np.interp(np.log(row['default'] + 1e-300), np.log(row['grid']), row['lds']):.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
