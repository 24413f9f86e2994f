"""Run the studies and show their results.

    python -m benchmarks list
    python -m benchmarks run STUDY [STUDY ...] [--quick] [--only AXIS=VALUE,...] [--set NAME=VALUE]
    python -m benchmarks table STUDY [VIEW] [--quick]
    python -m benchmarks keep STUDY
    python -m benchmarks page [--check]
    python -m benchmarks draw STUDY FOLDER
    python -m benchmarks data [FOLDER]
    python -m benchmarks peers [ENVIRONMENT ...]
    python -m benchmarks bench [--full]
    python -m benchmarks atlas list|make|score|keep

Runs write to benchmarks/results/runs/ as their cells are done, and go on where they stopped;
``keep`` copies a run to benchmarks/results/, which the docs show.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path

from benchmarks.atlas import command as atlas


def main(argv: list[str] | None = None) -> None:
    # leave no cell behind when somebody ends this process
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))
    options = _parser().parse_args(argv)
    try:
        options.do(options)
    except KeyboardInterrupt:
        raise SystemExit("\nended; the cells that were done are kept, and run goes on") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, do, about: str) -> argparse.ArgumentParser:
        found = commands.add_parser(name, help=about)
        found.set_defaults(do=do)
        return found

    add("list", _list, "studies with their questions")
    run = add("run", _run, "run studies, or what is missing of them")
    run.add_argument("studies", nargs="+", metavar="STUDY")
    _run_options(run)
    table = add("table", _table, "print the tables of a study")
    table.add_argument("study")
    table.add_argument("view", nargs="?")
    table.add_argument("--quick", dest="size", action="store_const", const="quick", default="full")
    table.add_argument("--results", type=Path, help="folder of runs")
    keep = add("keep", _keep, "copy a run to benchmarks/results/, which the docs show")
    keep.add_argument("study")
    keep.add_argument("--partial", action="store_true", help="also where cells are missing")
    page = add("page", _page, "write kept results into the docs")
    page.add_argument("--check", action="store_true", help="write nothing; fail where they differ")
    draw = add("draw", _draw, "draw the pictures of a study")
    draw.add_argument("study")
    draw.add_argument("folder", type=Path)
    draw.add_argument("--quick", dest="size", action="store_const", const="quick", default="full")
    draw.add_argument("--results", type=Path, help="folder of runs")
    folder = add("data", _data, "what a folder of data lacks, and which studies need it")
    folder.add_argument("folder", type=Path, nargs="?", help="default: that of INFLUENCEKIT_DATA")
    peers = add("peers", _peers, "make the other libraries' environments")
    peers.add_argument("environments", nargs="*")
    bench = add("bench", _bench, "other libraries, cost, plain loops: small, or --full")
    bench.add_argument("--full", action="store_true", help="on MNIST, for an hour")
    bench.add_argument("--budget", type=float, help="minutes of all cells; 20, full 60")
    _run_options(bench, size=False)
    atlas.add_to(commands)
    cell = add("cell", _cell, "one cell in this process, for the harness")
    cell.add_argument("study")
    cell.add_argument("cell", type=json.loads)
    cell.add_argument("settings", type=json.loads)
    return parser


def _run_options(parser: argparse.ArgumentParser, size: bool = True) -> None:
    if size:
        sizes = parser.add_mutually_exclusive_group()
        for name, text in (("quick", "for tests, in seconds"), ("small", "that of make bench")):
            sizes.add_argument(
                f"--{name}", dest="size", action="store_const", const=name, help=text
            )
        parser.set_defaults(size="full")
        parser.add_argument("--only", nargs="+", default=[], metavar="AXIS=VALUE,...")
        parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE")
    parser.add_argument("--repeats", type=int, help="runs of each cell; the shortest counts")
    parser.add_argument("--threads", type=int, help="of torch; default all")
    parser.add_argument("--results", type=Path, help="folder; benchmarks/results/runs")
    parser.add_argument("--retry", action="store_true", help="run failed cells again")
    parser.add_argument("--fresh", action="store_true", help="forget what is there")


def _options(options, size: str):
    from benchmarks.harness import results, run

    if size != "full":  # so that a small run means the same everywhere
        os.environ.pop("INFLUENCEKIT_DATA", None)
    if options.threads:
        import torch

        torch.set_num_threads(options.threads)
    return run.Options(
        size=size,
        folder=options.results or results.RUNS,
        repeats=options.repeats,
        threads=options.threads,
        fresh_results=options.fresh,
        retry=options.retry,
    )


def _values(text: str) -> list:
    """What commas separate, or a list in JSON, for values that have commas themselves."""
    return json.loads(text) if text.startswith("[") else [_value(p) for p in text.split(",")]


def _value(text: str):
    """A number, true, false or null as JSON has them; other words as they are."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _list(options) -> None:
    from benchmarks.harness import load, names

    for name in names():
        study = load(name)
        cells = len(study.cells("full"))
        reads = f" Reads {', '.join(study.needs)}." if study.needs else ""
        print(f"{name:<24}{cells:>4} cells  {study.question}{reads}")


def _run(options) -> None:
    from benchmarks.harness import load, run

    how = _options(options, options.size)
    how.only = {axis: _values(text) for axis, text in _pairs("--only", options.only)}
    how.settings = {name: _value(text) for name, text in _pairs("--set", options.set)}
    for study in [load(name) for name in options.studies]:
        _show(run.run(study, how))


def _pairs(option: str, words: list[str]) -> list[list[str]]:
    for word in words:
        if "=" not in word:
            raise SystemExit(f"{option} takes NAME=VALUE, not {word!r}.")
    return [word.split("=", 1) for word in words]


def _found(options) -> dict:
    """Results of a run, or those that are kept."""
    from benchmarks.harness import load, results

    load(options.study)  # says which there are
    folders = [options.results or results.RUNS, results.KEPT]
    paths = [results.path_of(options.study, options.size, folder) for folder in folders]
    found = [path for path in paths if path.exists()]
    if not found:
        raise SystemExit(f"{options.study} has no results; python -m benchmarks run makes them.")
    return results.read(found[0])


def _table(options) -> None:
    _show(_found(options), options.view)


def _draw(options) -> None:
    from benchmarks.harness import results
    from benchmarks.measures.pictures import draw

    document = _found(options)
    if "cells" not in document:
        raise SystemExit(f"{options.study}: the kept results are transcribed; run it first.")
    print(*draw(options.study, results.rows_of(document, failed=True), options.folder), sep="\n")


def _show(document: dict, view: str | None = None) -> None:
    from benchmarks.harness import pages, results

    tables = pages.tables_of(document)
    if view is not None and view not in tables:
        raise SystemExit(f"{document['study']} has no table {view!r}; it has {sorted(tables)}.")
    for name, table in tables.items():
        if view in (None, name):
            print(f"\n{name}\n\n{table.markdown()}")
    for key, why in results.failures(document).items():
        print(f"{key}: {why}")


def _keep(options) -> None:
    from benchmarks.harness import load, results

    study = load(options.study)
    document = results.read(results.path_of(options.study, folder=results.RUNS))
    lacking = study.lacking(document["cells"])
    if lacking and not options.partial:
        raise SystemExit(
            f"{options.study}: {len(lacking)} cells of the study have no result, such as "
            f"{lacking[0]}. Run it again, or keep what is there with --partial."
        )
    results.save(results.path_of(options.study), document)
    print(f"kept; python -m benchmarks page writes {options.study} into the docs")


def _page(options) -> None:
    from benchmarks.harness import pages

    changed = pages.write(check=options.check)
    print("\n".join(changed) if changed else "the docs show the kept results")
    if options.check and changed:
        raise SystemExit(1)


def _data(options) -> None:
    from benchmarks.harness import data_folder
    from benchmarks.problems import data

    folder = options.folder or data.home()
    if folder is None or not folder.is_dir():
        raise SystemExit(f"{folder} is no folder; give one, or set INFLUENCEKIT_DATA to it.")
    table, complete = data_folder.table(folder)
    print(table.markdown())
    if not complete:
        raise SystemExit(1)


def _peers(options) -> None:
    from benchmarks.harness import environments

    for name in options.environments or environments.names():
        reasons = environments.make(name)
        print(f"{name}: {environments.folder(name).name}, {len(reasons)} did not install")


def _bench(options) -> None:
    from benchmarks.harness import bench

    how = _options(options, "full" if options.full else "small")
    bench.bench(how, options.budget or (60 if options.full else 20))


def _cell(options) -> None:
    from benchmarks.harness import load, results, run

    found = run.here(load(options.study), options.cell, options.settings)
    print(json.dumps(results.jsonable(found)), flush=True)


if __name__ == "__main__":
    main()
