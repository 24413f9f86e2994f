"""What the papers claim, and how the kept results answer: ``python -m benchmarks page`` writes it.

Each function reads one claim's verdict from the results of its study, so that another run changes
the verdict with the figures.
"""

from __future__ import annotations

from itertools import pairwise

from benchmarks.harness.claims import FAILS, HOLDS, IN_PART, Claim, Evidence, share
from benchmarks.harness.tables import short

# ---- further training, arXiv 2412.03906 --------------------------------------------------------

SETS = {"concrete": "Concrete", "cifar2": "CIFAR-2", "sst2": "SST-2", "acs-ma": "ACSIncome MA",
        "acs-ca": "ACSIncome CA"}  # fmt: skip
FURTHER = "20 seeds (Concrete), 4, 2 (CA); s.e. .001 to .06 over test rows"
#: A fall by less is no decay.
SMALL = 0.05


def _curve(found: Evidence, data: str, method: str, optimizer: str = "SGD") -> list[float]:
    """Cosines of a method at all horizons of an optimizer."""
    columns = found.columns(data, f"{optimizer}, ")
    values = [found.number(data, method, column) for column in columns]
    return [v for v in values if v is not None]


def _ends(values: list[float]) -> str:
    return f"{_dot(values[0])} → {_dot(values[-1])}"


def _dot(value: float) -> str:
    return short(value).replace("0.", ".", 1)


def first_order_decays(found: Evidence) -> tuple[str, str]:
    curves = {name: _curve(found, data, "GradDot") for data, name in SETS.items()}
    fall = sum(c[0] > 0.75 and c[0] - c[-1] > SMALL for c in curves.values())
    said = ", ".join(f"{name} {_ends(c)}" for name, c in curves.items())
    return share(fall, len(curves)), (
        f"GradDot, SGD, first to last horizon, falls by more than .05 in {fall} of {len(curves)}: "
        f"{said}"
    )


def influence_is_steadier(found: Evidence) -> tuple[str, str]:
    true, parts = 0, []
    for data, name in SETS.items():
        first, second = _curve(found, data, "GradDot"), _curve(found, data, "LiSSA, published λ")
        moves = abs(second[-1] - second[0]), abs(first[-1] - first[0])
        true += moves[0] <= moves[1] + SMALL and second[0] < first[0]
        parts.append(f"{name} {_ends(second)}")
    return share(true, len(SETS)), f"LiSSA, published λ: {', '.join(parts)}"


def _pairs(found: Evidence):
    """Cosines of each method by SGD and by Adam where it has both."""
    for data in SETS:
        for method in found.lines(data):
            sgd, adam = (_curve(found, data, method, o) for o in ("SGD", "Adam"))
            if method != "noise ceiling" and len(sgd) == len(adam):
                yield data, method, sgd, adam


def adam_is_higher(found: Evidence) -> tuple[str, str]:
    pairs = [(method, a, s) for _, method, sgd, adam in _pairs(found)
             for s, a in zip(sgd, adam, strict=True)]  # fmt: skip
    higher = sum(a > s for _, a, s in pairs)
    dots = [(a, s) for method, a, s in pairs if method == "GradDot"]
    sgd, adam = (_curve(found, "concrete", "GradDot", o) for o in ("SGD", "Adam"))
    said = (
        f"higher in {higher} of {len(pairs)} pairs (method, set, horizon); GradDot in "
        f"{sum(a > s for a, s in dots)} of {len(dots)}, on Concrete SGD {_ends(sgd)}, Adam "
        f"{_ends(adam)}"
    )
    return share(higher, len(pairs)), said


def rises_with_epochs(found: Evidence) -> tuple[str, str]:
    curves = [(method, curve) for data in SETS for method in found.lines(data)
              if method != "noise ceiling" for optimizer in ("SGD", "Adam")
              if len(curve := _curve(found, data, method, optimizer)) > 1]  # fmt: skip
    rise = sum(curve[-1] > curve[0] for _, curve in curves)
    dots = [curve for method, curve in curves if method == "GradDot"]
    concrete = _curve(found, "concrete", "GradDot")
    said = (
        f"the last horizon is above the first in {rise} of {len(curves)} curves; GradDot in "
        f"{sum(c[-1] > c[0] for c in dots)} of {len(dots)}, on Concrete {_ends(concrete)}"
    )
    return share(rise, len(curves)), said


def few_seeds_are_enough(found: Evidence) -> tuple[str, str]:
    one, five, ten = (found.number("seeds", "GradDot", c) for c in ("SGD, 1", "SGD, 5", "SGD, 10"))
    said = f"GradDot, Concrete: {_dot(one)} with one seed, {_dot(five)} with 5, {_dot(ten)} with 10"
    return (HOLDS if five - one > 0.5 * (ten - one) else FAILS), said


def tables_are_easier(found: Evidence) -> tuple[str, str]:
    first = {name: _curve(found, data, "GradDot")[0] for data, name in SETS.items()}
    others = [first[name] for name in ("CIFAR-2", "SST-2")]
    own = [v for name, v in first.items() if name not in ("CIFAR-2", "SST-2")]
    said = "GradDot after one epoch: " + ", ".join(f"{n} {_dot(v)}" for n, v in first.items())
    return (HOLDS if max(others) < min(own) - SMALL else FAILS), f"{said} (small nets)"


def _cosines(found: Evidence, **chosen) -> list[float]:
    """None, "full", "center" of GradDot after one epoch."""
    return [found.row(method="GradDot", epochs=1, adjust=a, **chosen)["cosine"]
            for a in ("none", "full", "center")]  # fmt: skip


def adjustment_is_needed(found: Evidence) -> tuple[str, str]:
    names = list(dict.fromkeys(r["data"] for r in found.rows(removal="paired")))
    values = {name: _cosines(found, data=name, removal="paired") for name in names}
    lifted = sum(v[2] > v[0] + SMALL for v in values.values())
    said = ", ".join(f"{SETS.get(n, n)} {_dot(v[0])}, {_dot(v[1])}, {_dot(v[2])}"
                     for n, v in values.items())  # fmt: skip
    return share(lifted, len(values)), f"GradDot, pairs: none, (17), (13): {said}"


def centering_is_best(found: Evidence) -> tuple[str, str]:
    names = list(dict.fromkeys(r["data"] for r in found.rows(removal="drop")))
    values = {name: _cosines(found, data=name, removal="drop") for name in names}
    lifted = sum(v[2] >= v[1] - 0.01 for v in values.values())
    said = ", ".join(f"{SETS.get(n, n)} {_dot(v[0])}, {_dot(v[1])}, {_dot(v[2])}"
                     for n, v in values.items())  # fmt: skip
    return share(lifted, len(values)), f"GradDot, dropped rows: none, (17), (13): {said}"


def _seeds(found: Evidence) -> str:
    rows = [r for r in found.rows() if r.get("cosine_se") is not None]
    errors = [e for r in rows for e in (r["cosine_se"] if isinstance(r["cosine_se"], list)
              else [r["cosine_se"]])]  # fmt: skip
    given = {cell["settings"]["n_repeats"] for cell in found.document["cells"].values()}
    seeds = " or ".join(str(n) for n in sorted(given))
    return f"{seeds} seeds; s.e. {min(errors):.3f} to {max(errors):.3f} over test rows"


def _fewer_for_acs(found: Evidence) -> str:
    return _seeds(found).replace("seeds", "seeds (2 for ACSIncome)")


def proposition_helps(found: Evidence) -> tuple[str, str]:
    plain, train, both = (found.row(method=at)["cosine"] for at in
                          ("model", "corrected", "predicted"))  # fmt: skip
    horizons = found.row(method="model")["horizons"]
    better = sum(t > p for t, p in zip(train, plain, strict=True))
    parts = [f"{h} epochs {_dot(p)}, {_dot(t)}, {_dot(b)}"
             for h, p, t, b in zip(horizons, plain, train, both, strict=True)]  # fmt: skip
    said = "; ".join(parts)
    return share(better, len(plain)), f"Concrete, without, as written, output too (ours): {said}"


def hessian_is_worse(found: Evidence) -> tuple[str, str]:
    ggn, hessian = (found.row(method=f"LiSSA {m}, published λ") for m in ("ggn", "hessian"))
    if "cosine" not in hessian:
        return HOLDS, f"LiSSA on the Hessian: {hessian['error']}"
    pairs = list(zip(hessian["cosine"], ggn["cosine"], strict=True))
    far, below = (all(h < part * g for h, g in pairs) for part in (0.5, 1.0))
    said = f"Concrete, published λ: Hessian {_ends(hessian['cosine'])}, GGN {_ends(ggn['cosine'])}"
    return (HOLDS if far else IN_PART if below else FAILS), said


# ---- choosing λ, arXiv 2505.24261 ---------------------------------------------------------------


def _on_mnist(found: Evidence) -> dict[str, dict]:
    return {r["attributor"]: r for r in found.rows() if r["problem"] == "mnist"}


def attributors_are_sensitive(found: Evidence) -> tuple[str, str]:
    widest = [max(line["relative_range"] for line in r["sensitivity"])
              for r in _on_mnist(found).values()]  # fmt: skip
    some, of = sum(share > 0.1 for share in widest), len(widest)
    said = f"the LDS of {some} of {of} changes by more than a tenth of its best"
    return (HOLDS if 2 * some > of else FAILS), said


def dimension_alone_hurts(found: Evidence) -> tuple[str, str]:
    falls = {name: _falls(_on_mnist(found)[name]["cells"])
             for name in ("TRAK", "IF fisher", "IF ggn")}  # fmt: skip
    said = ", ".join(f"{name} {sum(fall)} of {len(fall)}" for name, fall in falls.items())
    return (HOLDS if any(map(any, falls.values())) else FAILS), (
        f"fixed λ at which the LDS is lower with 2,048 dimensions than with 64: {said}"
    )


def _falls(cells: list[dict]) -> list[bool]:
    """For each fixed λ whether the most dimensions have a lower LDS than the fewest."""
    by_damping: dict[float, dict[int, float]] = {}
    for cell in cells:
        if cell["projection_dim"] and isinstance(cell["damping"], float):
            by_damping.setdefault(cell["damping"], {})[cell["projection_dim"]] = cell["lds"]
    return [lds[max(lds)] < lds[min(lds)] for lds in by_damping.values() if len(lds) > 1]


def indicator_is_near_the_best(found: Evidence) -> tuple[str, str]:
    cells = [r["xi"] / r["best"] for r in found.rows() if "xi" in r]
    near = sum(ratio > 0.9 for ratio in cells)
    said = (
        f"LDS of the ξ pick over the best of a grid: {_dot(sum(cells) / len(cells))} in the mean, "
        f"{_dot(min(cells))} at worst, above .90 in {near} of {len(cells)} (most are small tables)"
    )
    return share(near, len(cells)), said


#: The default of other libraries, λ = 0 or next to it; which one the paper means is not known.
SMALLEST = "IF fisher, λ -> 0"
DECAYS = {"decay 0": "50 %, decay 0", "decay 0.005": "50 %, decay 0.005"}


def default_is_like_random(found: Evidence) -> tuple[str, str]:
    parts, true = [], 0
    for name, column in DECAYS.items():
        a, b = (found.numbers("digits", line, column) for line in (SMALLEST, "random"))
        true += abs(a[0] - b[0]) <= 2 * (a[1] ** 2 + b[1] ** 2) ** 0.5
        parts.append(f"{name}: λ → 0 {a[0]:.1f}, random {b[0]:.1f}")
    return share(true, 2), f"digits, accuracy at 50 % removed, {'; '.join(parts)}"


def selected_removes_more(found: Evidence) -> tuple[str, str]:
    parts, true = [], 0
    for name in ("IF fisher", "TRAK"):
        pick, default = (found.numbers("digits", f"{name}, {how}", DECAYS["decay 0"])
                         for how in ("ξ = 0.5", "λ -> 0"))  # fmt: skip
        true += pick[0] < default[0]
        parts.append(f"{name} ξ = 0.5 {pick[0]:.1f}, λ → 0 {default[0]:.1f}")
    return share(true, 2), f"digits, accuracy at 50 % removed, decay 0: {', '.join(parts)}"


def accuracy_spread(found: Evidence) -> str:
    error = found.numbers("digits", "random", DECAYS["decay 0"])[1]
    return f"five seeds; s.e. {error:.2f} for random, the others' in its table"


# ---- AdamW-influence, arXiv 2605.18814 ----------------------------------------------------------

PUBLISHED = "AdamW, fisher"


def adamw_beats_the_others(found: Evidence) -> tuple[str, str]:
    view, others = "mnist, plain", ("SGD-influence", "DVEmb-type", "TracIn", "LESS-type")
    own = [_first(cell) for cell in found.line(view, PUBLISHED)]
    top = [max(map(_first, cells)) for cells in
           zip(*(found.line(view, name) for name in others), strict=True)]  # fmt: skip
    said = ", ".join(f"{_dot(a)} ({_dot(b)})" for a, b in zip(own, top, strict=True))
    true = sum(a > b for a, b in zip(own, top, strict=True))
    return share(true, len(own)), (
        f"Spearman of Algorithm 1 (best of four others), ReLU then GELU, three rates: {said}"
    )


def _first(cell: str) -> float:
    return float(cell.split()[0])


def optimizer_dominates(found: Evidence) -> tuple[str, str]:
    view, first = "mnist, scheduled", "relu, 0.001"
    ways = {"SGD": "SGD-influence", "constant rate": "AdamW, constant rate assumed",
            "no decay": "AdamW, no decay assumed"}  # fmt: skip
    own = found.number(view, "AdamW, hessian", first)
    lost = {name: own - found.number(view, line, first) for name, line in ways.items()}
    columns = found.columns(view)
    lowest = [min((found.number(view, line, c), name) for name, line in ways.items())[1]
              for c in columns]  # fmt: skip
    true = lowest.count("SGD")
    said = ", ".join(f"{name} {_dot(v)}" for name, v in lost.items())
    return share(true, len(columns)), f"Spearman lost at rate 1e-3, taken for: {said}"


def error_grows_with_the_rate(found: Evidence) -> tuple[str, str]:
    values = [
        _first(cell) for cell in found.line("mnist, plain", "relative error of the first line")
    ]
    relu, gelu = values[:3], values[3:]
    steps = [a > b for part in (relu, gelu) for a, b in pairwise(part)]
    said = f"ReLU {', '.join(map(_dot, relu))}; GELU {', '.join(map(_dot, gelu))}"
    return share(sum(steps), len(steps)), f"relative error at 1e-3, 1e-4, 1e-5: {said}"


def proxy_tracks_the_error(found: Evidence) -> tuple[str, str]:
    cells = found.column("trusted", "rank correlation of ratio and error")
    values = [float(cell) for cell in cells]
    true = sum(v > 0.5 for v in values)
    said = f"{_dot(min(values))} to {_dot(max(values))} in {len(values)} runs"
    return share(true, len(values)), f"rank correlation with the true error {said}"


# ---- groups, arXiv 2410.09940 -------------------------------------------------------------------


def groups_are_faster(found: Evidence) -> tuple[str, str]:
    cells = [
        found.numbers("cost", (size, "k-means, gradients"), f"{method}, ratios")
        for size in ("64", "256")
        for method in ("GradDot", "Fisher", "TRAK")
    ]
    vmap, own, _ = zip(*cells, strict=True)
    said = (
        f"gradient k-means, sizes 64 and 256: {min(vmap):.0f} to {max(vmap):.0f} times faster "
        f"than vmap(grad), {min(own):.2g} to {max(own):.2g} times than point scores here"
    )
    return (HOLDS if min(own) >= 10 else IN_PART if max(vmap) >= 10 else FAILS), said


def gradient_clusters_are_best(found: Evidence) -> tuple[str, str]:
    view, true, parts = "LDS, Spearman", 0, []
    sets = found.columns(view)[1:]
    for name in sets:
        lds = {g: found.number(view, (g, "GGN, points"), name) for g in
               ("k-means, gradients", "k-means, inputs", "random")}  # fmt: skip
        true += lds["k-means, gradients"] >= max(lds.values()) - 0.005
        parts.append(f"{name} {', '.join(_dot(v) for v in lds.values())}")
    said = f"LDS of summed GGN scores, k-means on gradients, on inputs, random: {'; '.join(parts)}"
    return share(true, len(sets)), said


PAPERS: dict[str, list[Claim]] = {
    "further training": [
        Claim("Without an adjustment the gold standard holds what training does anyway; (13) and "
              "(17) take it out.", "adjustments", adjustment_is_needed, _fewer_for_acs),
        Claim("Centering, (13), also repairs runs from whose order the row is dropped.",
              "adjustments", centering_is_best, _fewer_for_acs),
        Claim("First-order methods reach about .9 early and decay.", "agreement",
              first_order_decays, FURTHER),
        Claim("Influence functions are steadier and lower.", "agreement", influence_is_steadier,
              FURTHER),
        Claim("Cosines are higher with Adam than with SGD.", "agreement", adam_is_higher, FURTHER),
        Claim("Cosines rise with the epochs of further training.", "agreement", rises_with_epochs,
              FURTHER),
        Claim("10 to 20 seeds give most of what 100 give.", "agreement", few_seeds_are_enough,
              "blocks of 20 seeds; pairs of runs, so that 5 are enough"),
        Claim("Other data than tables are much harder.", "agreement", tables_are_easier, FURTHER),
        Claim("A gradient that is not yet zero adds a term to the training gradients "
              "(proposition 1).", "proposition", proposition_helps, _seeds),
        Claim("LiSSA on the Hessian reaches less than half of LiSSA on the Gauss-Newton matrix.",
              "proposition", hessian_is_worse, _seeds),
    ],
    "λ": [
        Claim("Most attributors are sensitive to some hyperparameter.", "sensitivity",
              attributors_are_sensitive, "60 half-subsets with 2 seeds each"),
        Claim("More projection dimensions at a fixed λ can hurt.", "sensitivity",
              dimension_alone_hurts, "60 half-subsets with 2 seeds each"),
        Claim("λ at ξ = 0.5 is near-optimal without retraining.", "search_choices",
              indicator_is_near_the_best, "80 subsets, 2 seeds each"),
        Claim("For data selection the default λ is no better than random.", "removal",
              default_is_like_random, accuracy_spread),
        Claim("Removal by the selected λ does more damage than by the default.", "removal",
              selected_removes_more, accuracy_spread),
    ],
    "AdamW-influence": [
        Claim("Differentiating AdamW's own steps ranks better than methods made for SGD.",
              "trajectory", adamw_beats_the_others, "3 seeds; s.e. .00 to .10"),
        Claim("Of wrong configurations the wrong optimizer costs most.", "trajectory",
              optimizer_dominates, "3 seeds; s.e. .01 to .06"),
        Claim("The first-order error grows with the learning rate.", "trajectory",
              error_grows_with_the_rate, "3 seeds"),
        Claim("The error proxy follows the true error.", "trajectory", proxy_tracks_the_error,
              "3 seeds at each of 3 rates"),
    ],
    "groups": [
        Claim("Group scores are 10 to 50 times faster.", "groups_cost", groups_are_faster,
              "one run, times of a machine"),
        Claim("K-means on gradients is the best grouping.", "groups", gradient_clusters_are_best,
              "3 seeds; s.e. .00 to .08"),
    ],
}  # fmt: skip
