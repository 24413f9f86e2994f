"""The page of a run, from its results alone."""

from __future__ import annotations

import textwrap
from pathlib import Path

from benchmarks.harness.bench import plots, tables
from benchmarks.harness.bench.tables import BUSY, MARK, OURS, busy, ok
from benchmarks.harness.run import OUT_OF_TIME
from benchmarks.harness.tables import number

SIZES = {"small": "784-64-10", "large": "784-512-128-10"}


def render(document: dict, page: Path) -> None:
    """Write the page, and its pictures into the folder ``images`` beside it."""
    images = page.parent / "images"
    parts = [
        _head(document),
        _machine(document),
        *(_size(document, size, images) for size in document["plan"]["sizes"]),
        _lds(document, images),
        _agreement(document),
        _scaling(document, images),
        _short(document),
        _not_run(document),
    ]
    page.parent.mkdir(parents=True, exist_ok=True)
    head, *rest = [part for part in parts if part]
    text = "\n\n".join([head, "<!-- measured: benchmarks -->", *rest, "<!-- end measured -->"])
    page.write_text(text + "\n", encoding="utf-8")


def _picture(name: str | None, text: str) -> str:
    return f"![{text}](images/{name})" if name else ""


def _join(*parts: str) -> str:
    """Blocks one below the other, paragraphs broken into lines."""
    return "\n\n".join(
        part if part[0] in "#|!" else "\n".join(textwrap.wrap(part, 100, break_on_hyphens=False))
        for part in parts
        if part
    )


def _data(document: dict) -> str:
    return "MNIST" if document["kind"] == "full" else "scikit-learn's digits, enlarged"


def _head(document: dict) -> str:
    full = document["kind"] == "full"
    command = "INFLUENCEKIT_DATA=FOLDER make bench-full" if full else "make bench"
    wall = sum(cell.get("wall", 0) for cell in document["cells"].values()) / 60
    return f"""# Benchmarks

influencekit beside other libraries on the same work, and what it costs as the work grows. This page
is written by a program from the results of one run; no number in it is typed by hand.

```sh
{command}
```

takes {wall:.0f} minutes on the machine below, and some more to install the other libraries into
environments of their own the first time. `make bench` is the smaller run, of minutes, on data that
comes with scikit-learn. An interrupted run goes on where it stopped. What each library is given,
and how its conventions are translated, is in `benchmarks/peers/`; further measurements, of longer
runs, are listed in `benchmarks/README.md`."""


def _machine(document: dict) -> str:
    about, cells = document["machine"], document["cells"]
    versions, peers = about["versions"], about.get("peer_versions", {})
    others = [
        f"{name} {entry['version']}"
        for name, entry in document["libraries"].items()
        if name != OURS and "version" in entry
    ]
    memory = f", {about['memory_gb']:.0f} GB" if about["memory_gb"] else ""
    commit = f" (commit {about['commit']}" + (", changed)" if about["uncommitted"] else ")")
    lines = [
        ["machine", f"{about['cpu']}, {about['cores']} cores{memory}; {about['system']}"],
        ["threads", str(document["threads"])],
        ["data, seed", f"{_data(document)}; 0"],
        ["ended", f"{document['finished'][:16].replace('T', ' ')} UTC"],
        ["influencekit", f"{versions['influencekit']}{commit if about['commit'] else ''}"],
        ["its environment", ", ".join(f"{k} {v}" for k, v in versions.items() if k != OURS)],
    ]
    if peers:
        text = ", ".join(f"{k} {v}" for k, v in peers.items() if k != OURS)
        lines += [["the comparisons'", text], ["other libraries", ", ".join(others)]]
    if ok(cells.get("peak")):
        rates = cells["peak"]["flops_per_second"]
        text = ", ".join(f"{value / 1e9:.0f} Gflop/s in {key}" for key, value in rates.items())
        size = cells["peak"]["size"]
        lines.append(["matmul peak", f"{text} ({size} x {size}, best of five)"])
    # of the LDS and the agreement no time is shown
    timed = [
        cell
        for key, cell in cells.items()
        if "load" in cell and not key.startswith(("lds", "exact", "agreement"))
    ]
    loads = [cell["load"] for cell in timed]
    lines.append(["load average", f"{min(loads):.1f} to {max(loads):.1f} as timed cells started"])
    marked = sum(busy(cell) for cell in timed)
    note = f"Other work took at most {BUSY} cores beside each of the {len(timed)} timed cells."
    if marked:
        note = (
            f"**Beside {marked} of {len(timed)} timed cells other work took more than {BUSY} "
            f"cores: their times, marked {MARK}, are too long, and ratios of them say little.**"
        )
    return _join("## The run", tables.table(["", ""], lines, 2), note)


def _size(document: dict, size: str, images: Path) -> str:
    rows = tables.comparisons(document, size)
    if not rows:
        return ""
    done = [c for row in rows for c in [row["ours"], *row["others"].values()] if ok(c)]
    facts = f"`{SIZES[size]}`"
    if done:
        first, s = done[0], done[0]["settings"]
        facts += (
            f", p = {first['p']:,}, n = {first['n']:,} training and m = {first['m']:,} test rows "
            f"of {_data(document)}, {first['dtype']}; damping {s['damping']:g}, rank {s['rank']}, "
            f"{s['krylov_dim']} Krylov vectors, {s['cg_steps']} steps of conjugate gradients, "
            f"{s['lissa_depth']} of LiSSA on batches of {s['lissa_batch']}, projections to "
            f"{s['proj_dim']} dimensions"
        )
    text = (
        f"{facts}. Seconds of fit and scores, one run each in a process of its own, and the peak "
        f"of memory above the model and data; one that took more than {document['plan']['limit']} "
        "seconds was stopped."
    )
    return _join(
        f"## Side by side: {SIZES[size]}",
        text,
        tables.side_by_side(rows),
        tables.side_by_side_sentence(rows),
        _picture(
            plots.side_by_side(document, size, images),
            f"Seconds and peak memory of every library on {SIZES[size]}, a line a method",
        ),
    )


def _lds(document: dict, images: Path) -> str:
    rows, truth = tables.lds_rows(document), document["cells"].get("lds/truth")
    if not rows or not ok(truth):
        return ""
    done = [row["cell"] for row in rows if ok(row["cell"])]
    p = f", p = {done[0]['p']:,}" if done else ""
    ceiling = "" if truth["ceiling"] is None else (
        f" What the retrainings' own noise allows is {truth['ceiling']:.3f}."
    )  # fmt: skip
    text = (
        f"Linear datamodeling score on digits, MLP 64-32-10{p}, n = {truth['n']:,}: mean over "
        f"{truth['m']} test rows and its standard error; {truth['subsets']} random halves, "
        f"{truth['repeats']} trainings each.{ceiling} The default is what each library takes when "
        f"no damping is given; the best is over it and {', '.join(document['plan']['dampings'])}, "
        "as dampings of the mean curvature. Choosing it needs the retrainings."
    )
    return _join(
        "## Accuracy",
        text,
        tables.lds_table(rows),
        tables.lds_sentence(rows),
        _picture(
            plots.lds(document, images), "LDS of every library at its default and best damping"
        ),
    )


def _agreement(document: dict) -> str:
    cell = document["cells"].get("agreement")
    if not ok(cell):
        return ""
    text = (
        f"Pearson's correlation of all scores with the dense formula in float64, MLP 64-32-10, "
        f"p = {cell['p']:,}, n = {cell['n']}, m = {cell['m']}, damping {cell['damping']:g}. The "
        "formula of an approximation is its own (that of K-FAC for K-FAC), with expectations over "
        "all labels for drawn ones; for CG, LiSSA and Nyström it is the matrix that they "
        "approximate. `benchmarks/peers/README.md` explains what is not 1."
    )
    return _join("## The same scores?", text, tables.agreement_table(document))


def _scaling(document: dict, images: Path) -> str:
    if not any(tables.series(document, axis) for axis in ("n", "m", "width", "dampings")):
        return ""
    base = document["plan"]["base"]
    text = (
        f"influencekit alone, fit and scores of an MLP 784-{base['width']}-10, n = {base['n']:,}, "
        f"m = {base['m']:,}, one of them changed at a time; p by the hidden layer's width. Best of "
        "up to five runs. Along the number of λ: the surrogate indicator ξ, and the LDS on 100 "
        "subsets, at each of them (Gauss-Newton matrix in 512 dimensions)."
    )
    flops = (
        "Flops are 2abc for each product of an (a, b) with a (b, c) matrix that torch runs, "
        "counted in a second pass; eigendecompositions, elementwise work and numpy's products are "
        "left out, so that the share of the float32 peak is a lower bound. Products in float64 "
        "can reach half of it at most. The exponent is that of the last two points."
    )
    return _join(
        "## Cost against n, m, p and the number of λ",
        text,
        _picture(plots.scaling(document, images), "Seconds against n, m, p and the number of λ"),
        tables.scaling_table(document),
        flops,
        tables.formula_sentence(document),
        tables.scaling_sentence(document),
        _picture(
            plots.peak_share(document, images), "Share of the matmul peak along n, m, p and λ"
        ),
    )


def _short(document: dict) -> str:
    """One line for each of the three jobs that have a plain counterpart."""
    cells, lines = document["cells"], []
    for name, job in SHORT.items():
        cell = cells.get(f"short/{name}")
        if not ok(cell):
            continue
        text, own, other, difference = job(cell)
        lines.append(
            [text, number(own) + tables.mark(cell), number(other), number(other / own), difference]
        )
    if not lines:
        return ""
    head = ["job", "ours, s", "plain, s", "ratio", "largest difference"]
    return _join("## Against a plain loop", tables.table(head, lines))


SHORT = {
    "dot_products": lambda c: (
        f"gradient products of {c['n']:,} x {c['m']:,} rows, p = {c['n_parameters']:,}, against "
        f"`vmap(grad)` with its best chunk",
        c["seconds"],
        c["reference_seconds"][str(c["best_chunk"])],
        f"{c['relative_difference']:.0e} of the norm",
    ),
    "stacked_training": lambda c: (
        f"training {c['models']} nets of width {c['width']} on {c['rows']} rows, {c['epochs']} "
        "epochs, against skorch one by one",
        c["seconds_stacked"],
        c["seconds_joblib"],
        f"{c['max_difference']:.0e} of an output",
    ),
    "further_training": lambda c: (
        f"{c['epochs']} further epochs without each of {c['left_out']} rows of {c['rows']}, width "
        f"{c['width']}, against a torch loop",
        c["seconds_together"],
        c["seconds_loop"],
        f"{c['max_difference']:.0e} of scores up to {c['largest_score']:.0e}",
    ),
}


def _not_run(document: dict) -> str:
    """Libraries that are missing, and cells without a result."""
    lines = [
        [name, tables.reason(about["reason"])]
        for name, about in document["libraries"].items()
        if "reason" in about
    ]
    failed = {key: cell for key, cell in document["cells"].items() if not ok(cell)}
    left = [key for key, cell in failed.items() if cell["status"] == OUT_OF_TIME]
    if left:
        lines.append([f"{len(left)} cells", OUT_OF_TIME])
    lines += [
        [f"`{key}`", tables.reason(cell["status"])]
        for key, cell in failed.items()
        if key not in left
    ]
    if not lines:
        return ""
    return _join("## Without a result", tables.table(["cell", "why"], lines, 2))
