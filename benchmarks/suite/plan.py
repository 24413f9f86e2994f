"""Which cells a run has, quick or full."""

from __future__ import annotations

from pathlib import Path

from suite.process import Cell

HERE = Path(__file__).resolve().parents[1]
SECTIONS = ("scaling", "short", "lds", "agreement", "peers")
WITH_PEERS = {"lds", "agreement", "peers"}
OUT_OF_TIME = "not run: the time was used up"

#: What each kind of run measures.  Limits are seconds a cell.
QUICK = {
    "limit": 20,
    "sizes": {"small": ["--n", "1000", "--m", "100"]},
    "peers": (
        "graddot tracin trak trak_two_sided datainf kfac ekfac ekfac_true ekfac_empirical arnoldi"
    ),
    "lds": "graddot ggn datainf ekfac ekfac_true trak trak_two_sided",
    "lds_limit": 40,
    "truth": ["--subsets", "50", "--repeats", "2"],
    "dampings": ["0.001", "0.01", "0.1"],
    "agreement": "graddot tracin explicit datainf ekfac_true trak_exact",
    "scaling": "graddot ekfac trak_two_sided",
    "base": {"n": 1000, "m": 100, "width": 64},
    "series": {"n": [500, 1000, 2000, 4000], "m": [25, 100, 400], "width": [16, 64, 256]},
    "n_dampings": [1, 8, 64],
    "short": {
        "dot_products": ["--n", "1000", "--m", "200"],
        "stacked_training": ["--models", "50"],
        "further_training": ["--left-out", "50"],
    },
}
FULL = {
    "limit": 60,
    "sizes": {"small": [], "large": []},
    "peers": (
        "graddot tracin trak trak_factored trak_two_sided datainf kfac ekfac ekfac_true "
        "ekfac_empirical cg lissa arnoldi nystroem nystroem_fisher nystroem_hessian"
    ),
    "lds": (
        "graddot explicit ggn fisher lissa arnoldi nystroem nystroem_fisher nystroem_hessian "
        "datainf kfac ekfac ekfac_true ekfac_empirical trak trak_factored trak_two_sided"
    ),
    "lds_limit": 120,
    "truth": [],
    "dampings": ["0.001", "0.01", "0.1", "1"],
    "agreement": (
        "graddot tracin explicit ggn fisher cg lissa arnoldi nystroem nystroem_fisher "
        "nystroem_hessian datainf kfac ekfac kfac_true ekfac_true ekfac_empirical trak_exact"
    ),
    "scaling": "graddot ekfac ggn trak trak_two_sided",
    "base": {"n": 2000, "m": 200, "width": 64},
    "series": {
        "n": [1000, 2000, 4000, 8000, 16000],
        "m": [50, 200, 800, 3200],
        "width": [16, 64, 256, 1024],
    },
    "n_dampings": [1, 4, 16, 64, 256],
    "short": {"dot_products": [], "stacked_training": [], "further_training": []},
}


def cells(run: dict, sections, libraries: dict, python: str, peers: str, common: list[str]):
    """All cells in order, the long comparisons last.

    Parameters
    ----------
    run : dict
        QUICK or FULL.
    sections : collection of str
        Some of SECTIONS.
    libraries : dict
        What ``peers/run.py --list`` printed.
    python, peers : str
        Interpreters of the project and of the other libraries.
    common : list of str
        Options that decide no result: the folder for models and scores, threads.
    """
    make = {
        "scaling": lambda: scaling(run, python, common),
        "short": lambda: short(run, python),
        "lds": lambda: lds(run, libraries, peers, common),
        "agreement": lambda: agreement(run, libraries, peers, common),
        "peers": lambda: side_by_side(run, libraries, peers, common),
    }
    return [cell for section in SECTIONS if section in sections for cell in make[section]()]


def scaling(run: dict, python: str, common: list[str]) -> list[Cell]:
    script = HERE / "scaling.py"
    found = {"peak": Cell("peak", python, script, ["peak"], 300, common)}

    def add(method: str, dampings: int = 1, **changes) -> None:
        point = {**run["base"], "dampings": dampings, **changes}
        key = f"scaling/{method}/" + "-".join(f"{name}{value}" for name, value in point.items())
        options = [word for name, value in point.items() for word in (f"--{name}", str(value))]
        found[key] = Cell(key, python, script, [method, *options], 300, common)

    for method in run["scaling"].split():
        for axis, values in run["series"].items():
            for value in values:
                add(method, **{axis: value})
    for method in ("xi", "xi_after_gradients", "lds", "lds_after_gradients"):
        for number in run["n_dampings"]:
            add(method, number)
    return list(found.values())


def short(run: dict, python: str) -> list[Cell]:
    return [
        Cell(f"short/{name}", python, HERE / f"bench_{name}.py", [*options, "--json"], 600)
        for name, options in run["short"].items()
    ]


def pairs(methods: str, libraries: dict) -> list[tuple[str, str]]:
    """(method, library) where a library has a method, ours first."""
    return [
        (method, library)
        for method in methods.split()
        for library, about in libraries.items()
        if method in about["methods"]
    ]


def lds(run: dict, libraries: dict, peers: str, common: list[str]) -> list[Cell]:
    script, truth, limit = HERE / "peers" / "lds.py", run["truth"], run["lds_limit"]
    found = [Cell("lds/truth", peers, script, ["--truth", *truth], 600, common)]
    for method, library in pairs(run["lds"], libraries):
        options = [library, method, *truth, "--dampings", *run["dampings"]]
        found.append(Cell(f"lds/{method}/{library}", peers, script, options, limit, common))
    return found


def agreement(run: dict, libraries: dict, peers: str, common: list[str]) -> list[Cell]:
    script, limit = HERE / "peers" / "run.py", run["lds_limit"]
    same, found = ["tiny", "--dtype", "float64", "--n", "300", "--m", "50"], []
    for method, library in pairs(run["agreement"], libraries):
        options = [library, method, *same]
        found.append(Cell(f"exact/{method}/{library}", peers, script, options, limit, common))
    return [*found, Cell("agreement", peers, script.with_name("compare.py"), same, 300, common)]


def side_by_side(run: dict, libraries: dict, peers: str, common: list[str]) -> list[Cell]:
    script, limit, found = HERE / "peers" / "run.py", run["limit"], []
    for size, rows in run["sizes"].items():
        for method, library in pairs(run["peers"], libraries):
            key, options = f"peers/{size}/{method}/{library}", [library, method, size, *rows]
            found.append(Cell(key, peers, script, options, limit, common))
    return found
