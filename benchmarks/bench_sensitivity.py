"""How much attributors depend on their hyperparameters: tables, JSON and pictures.

    INFLUENCEKIT_DATA=FOLDER python benchmarks/bench_sensitivity.py --out FOLDER
    python benchmarks/bench_sensitivity.py --setting cifar2 --data-home FOLDER --out FOLDER

Settings: "mnist" (an MLP), "cifar2" (a small residual net), "digits" (an MLP; needs no file) and
"llama" (LoGra on a tiny language model that goes on training on other text).  Models are
retrained on random halves of the training data once; every cell of every grid is then measured
against them.  Finished cells are kept in OUT/cells, retrainings in OUT/retrainings: a run that
was ended goes on.  Attributors whose curvature is not in the package yet are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import warnings
from pathlib import Path
from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
import sensitivity_settings as settings

from influencekit import SensitivityStudy, retrain_on_subsets
from influencekit.displays import SensitivityDisplay
from influencekit.exceptions import InfluenceKitWarning

#: (n_train, n_query, n_subsets, n_repeats, epochs, models)
SIZES = {
    "mnist": (2000, 100, 100, 2, 30, 5),
    "digits": (1000, 100, 100, 2, 30, 5),
    "cifar2": (1000, 100, 60, 1, 20, 3),
    "llama": (256, 40, 40, 1, 3, 1),
}


def net_study(options, sizes):
    """Study of a net trained from its random start."""
    n_train, n_query, n_subsets, n_repeats, epochs, n_models = sizes
    shape = n_train, n_query, epochs, options.seed
    if options.setting == "digits":
        setting = settings.digits(*shape)
    else:
        setting = getattr(settings, options.setting)(options.data_home, *shape)
    nets = setting.fit(n_models, options.seed)
    accuracy = nets[0].score(setting.X_query, setting.y_query)
    print(f"{options.setting}: accuracy {accuracy:.3f} on the queries", flush=True)
    truth = retrain_on_subsets(
        nets[0],
        *setting.data,
        n_subsets=n_subsets,
        n_repeats=n_repeats,
        random_state=options.seed,
        cache_dir=options.out / "retrainings",
        n_jobs=options.n_jobs,
        verbose=1,
    )
    grids = settings.net_grids(options.setting, epochs, n_models)
    if options.attributors:
        grids = {name: grid for name, grid in grids.items() if name in options.attributors}
    study = SensitivityStudy(
        grids,
        training_epochs=[e for e in settings.EPOCHS if e < epochs],
        cache_dir=options.out / "cells",
        n_jobs=options.n_jobs,
        random_state=options.seed,
        verbose=1,
    )
    return study.fit(nets, *setting.data, subset_outputs=truth)


def draw(study, out: Path) -> None:
    """All pictures that the results allow."""
    axes = set().union(*study.axes_.values())
    one = {"n_models": 1, "checkpoint": "final"}
    pictures = [
        ("damping", {"x": "damping", "others": one}),
        ("projection_dim_tuned", {"x": "projection_dim", "others": one}),
        ("projection_dim_default", {"x": "projection_dim", "others": {**one, "damping": "auto"}}),
        ("epochs_tuned", {"x": "checkpoint", "others": {"n_models": 1}}),
        ("epochs_default", {"x": "checkpoint", "others": {"n_models": 1, "damping": "auto"}}),
        ("n_models_tuned", {"x": "n_models", "others": {"checkpoint": "final"}}),
        ("rank_tuned", {"x": "curvature__rank"}),
    ]
    for name in study.axes_:
        file = name.replace(" ", "_")
        alone = {"attributors": [name], "others": one}
        pictures += [
            (f"{file}_damping_by_dim", {"x": "damping", "hue": "projection_dim", **alone}),
            (f"{file}_heat", {"x": "damping", "y": "projection_dim", **alone}),
            (f"{file}_scale_depth", {"x": "curvature__scale", "y": "curvature__depth", **alone}),
            (f"{file}_rank_heat", {"x": "damping", "y": "curvature__rank", **alone}),
        ]
    for file, options in pictures:
        wanted = {options["x"], options.get("y"), options.get("hue")} - {None}
        try:
            if wanted <= axes:
                display = SensitivityDisplay.from_study(study, **options)
                display.figure_.savefig(out / f"{file}.png", dpi=130)
        except ValueError:  # no attributor varies these axes
            pass
        plt.close("all")


def draw_fixed_and_tuned(study, out: Path) -> None:
    """Projection dimension at a few fixed λ, and with λ tuned again."""
    table = study.results_
    for name, axes in study.axes_.items():
        if not {"damping", "projection_dim"} <= set(axes):
            continue
        numbers = sorted(
            value
            for value in table.loc[table["attributor"] == name, "damping"].unique()
            if not isinstance(value, str)
        )
        some = set(numbers[:: max(1, len(numbers) // 4)])
        rows = table[[value in some for value in table["damping"]]]
        others = {"n_models": 1, "checkpoint": "final"}
        options = {"attributors": [name], "others": others}
        try:
            display = SensitivityDisplay(rows, "projection_dim", hue="damping", **options).plot()
        except ValueError:  # one dimension only
            continue
        tuned = SensitivityDisplay(table, "projection_dim", **options)
        tuned.plot(ax=display.ax_, legend_loc=None)
        tuned.lines_[name].set(label="λ tuned again", linewidth=3, color="black")
        display.ax_.set_title(name)
        display.ax_.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize="small")
        file = f"{name.replace(' ', '_')}_dim_fixed_and_tuned.png"
        display.figure_.savefig(out / file, dpi=130)
        plt.close("all")


def takeaways(study) -> list[str]:
    """The paper's statements, as far as they can be read off the results."""
    table, lines = study.results_, []
    wide = study.sensitivity_[study.sensitivity_["relative_range"] > 0.1]
    names = sorted(set(wide["attributor"]))
    lines.append(
        f"LDS varies by more than 10 % of the best over some hyperparameter for {len(names)} of "
        f"{len(study.axes_)} attributors: {', '.join(names)}."
    )
    rows = table[(table["error"] == "") & table["lds"].notna()]
    for axis in ("checkpoint", "n_models"):
        if axis in table:
            rest = "final" if axis == "n_models" else 1
            other = "checkpoint" if axis == "n_models" else "n_models"
            if other in table:
                keep = [value == rest for value in table[other]]
                table_of = rows.loc[[i for i in rows.index if keep[i]]]
                lines += _along(table_of, axis)
    if "projection_dim" in table:
        plain = [
            row.get("n_models", 1) == 1 and row.get("checkpoint", "final") == "final"
            for _, row in rows.iterrows()
        ]
        lines += _projection(rows[plain])
    return lines


def _along(rows, axis: str) -> list[str]:
    """Best LDS over the rest at each value of an axis."""
    lines = []
    for name, own in rows.groupby("attributor", sort=False):
        best = {str(value): own[own[axis] == value]["lds"].max() for value in own[axis].unique()}
        if len(best) > 1:
            found = ", ".join(f"{value}: {lds:.3f}" for value, lds in best.items())
            lines.append(f"{name}, {axis}, λ tuned again: {found}")
    return lines


def _projection(rows) -> list[str]:
    """Whether more dimensions help at a fixed λ, and with λ tuned again."""
    lines = []
    for name, own in rows[rows["projection_dim"].notna()].groupby("attributor", sort=False):
        own = own[own["damping"].map(lambda d: not isinstance(d, str))]
        grid = own.pivot_table(index="damping", columns="projection_dim", values="lds")
        if grid.shape[1] < 2 or grid.shape[0] < 2:
            continue
        grid = grid.dropna()
        falls = (grid.iloc[:, -1] < grid.iloc[:, 0]).sum()
        tuned = grid.max().to_numpy()
        lines.append(
            f"{name}: from {grid.columns[0]:g} to {grid.columns[-1]:g} dimensions the LDS falls at "
            f"{falls} of {len(grid)} fixed λ; with λ tuned again it runs "
            + " -> ".join(f"{value:.3f}" for value in tuned)
            + (" (rising)." if (np.diff(tuned) >= 0).all() else " (not rising throughout).")
        )
    return lines


def main() -> None:
    """Run, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--setting", choices=list(SIZES), default="mnist")
    home = os.environ.get("INFLUENCEKIT_DATA")
    parser.add_argument("--data-home", type=Path, default=None if home is None else Path(home))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--sizes",
        type=int,
        nargs=6,
        default=None,
        help="n_train n_query n_subsets n_repeats epochs models",
    )
    parser.add_argument("--attributors", nargs="*", default=None, help="names; all by default")
    parser.add_argument("--n-jobs", type=int, default=None)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore", InfluenceKitWarning)
    start = perf_counter()
    sizes = options.sizes or SIZES[options.setting]
    if options.setting == "llama":
        from sensitivity_llama import llama_study

        study = llama_study(options, sizes)
    else:
        study = net_study(options, sizes)
    report = {
        "setting": options.setting,
        "sizes": list(sizes),
        "seconds": perf_counter() - start,
        "load": os.getloadavg()[0],
        "noise_ceiling": study.noise_ceiling_,
        "takeaways": takeaways(study),
        "sensitivity": json.loads(study.sensitivity_.to_json(orient="records")),
        "results": json.loads(study.results_.to_json(orient="records", default_handler=str)),
    }
    (options.out / "sensitivity.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    print(study.best_.drop(columns=["error", "n_undefined"]).to_string())
    print(study.sensitivity_.round(3).to_string())
    failed = study.results_[study.results_["error"] != ""]
    print(f"\n{len(failed)} of {len(study.results_)} cells failed")
    print(failed.groupby("attributor")["error"].first().to_string() if len(failed) else "")
    print(*report["takeaways"], sep="\n")
    print(f"attainable LDS: {study.noise_ceiling_}; {report['seconds']:.0f} s")
    draw(study, options.out)
    draw_fixed_and_tuned(study, options.out)


if __name__ == "__main__":
    main()
