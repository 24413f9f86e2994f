"""The options of the command line, and how it ends."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from sklearn.exceptions import NotFittedError

from influencekit._version import __version__
from influencekit.cli import _commands
from influencekit.exceptions import LostWorkersError

__all__ = ["main", "parser"]

#: Errors that are told in one line; any other one is a fault of ours, and keeps its traceback.
TOLD = (
    ValueError, TypeError, ImportError, OSError, MemoryError, NotFittedError, LostWorkersError,
)  # fmt: skip

DESCRIPTION = """\
Which training rows made the model do this? Reads a fitted model and its
tables, writes tables and pages.
Exit codes: 0 done, 1 an input was refused, 2 an option is wrong, 130 interrupted."""


def parser() -> argparse.ArgumentParser:
    """The parser of all commands.

    Returns
    -------
    argparse.ArgumentParser
    """
    whole = argparse.ArgumentParser(prog="python -m influencekit", description=DESCRIPTION)
    whole.add_argument("--version", action="version", version=__version__)
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    index = _command(commands, "index", "build an index of all training rows in a folder")
    index.add_argument("--to", metavar="FOLDER", required=True, help="folder of the index")
    index.add_argument("--slice", metavar="I/N", help="write one of N slices of the index only")
    index.add_argument("--n-jobs", type=int, help="workers (default 1)")
    _of_index(index)
    estimate = _command(commands, "estimate", "say what a fit or an index will cost")
    estimate.add_argument("--n-queries", type=int, default=100, help="queries (default 100)")
    estimate.add_argument("--as-index", action="store_true", help="of an index, not of a fit")
    _of_index(estimate)
    query = _command(commands, "query", "write the strongest training rows of each query")
    query.add_argument("-k", type=int, default=10, help="rows on each side (default 10)")
    query.add_argument("--to", metavar="FILE", help="table to write; left out: CSV is printed")
    report = _command(commands, "report", "write one HTML page with examples and their rows")
    report.add_argument("-k", type=int, default=5, help="rows on each side (default 5)")
    report.add_argument("--n-shown", type=int, default=5, help="queries shown (default 5)")
    report.add_argument("--to", metavar="FILE", default="report.html", help="page to write")
    lds = _command(commands, "lds", "retrain on subsets, and print how well scores predict it")
    lds.add_argument("--n-subsets", type=int, default=50, help="random halves (default 50)")
    lds.add_argument("--n-repeats", type=int, default=1, help="trainings of each half (default 1)")
    lds.add_argument("--cache", metavar="FOLDER", help="keeps trainings; a second call resumes")
    lds.add_argument("--n-jobs", type=int, help="workers (default 1)")
    lds.add_argument("--seed", type=int, default=0, help="seed of subsets and trainings")
    return whole


def _of_index(one: argparse.ArgumentParser) -> None:
    """The options of an index."""
    one.add_argument("--dtype", default="float32", help="float32, float16 or int8")
    one.add_argument("--shard-rows", type=int, help="rows of a file (default: about 64 MB)")
    one.add_argument("--curvature-rows", type=int, help="rows that the method is fitted on")
    one.add_argument("--projection-dim", type=int, help="for GradDot, GradCos and TracIn")
    one.add_argument("--max-memory", help="for a shard, such as 1GB; the method has its own")
    one.add_argument("--seed", type=int, help="seed of that projection")


def _command(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    """A command with the options that all of them have."""
    one = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    one.add_argument(
        "--model", required=True, help="file written by joblib.dump, or module:attribute"
    )
    one.add_argument("--trust", action="store_true", help="allow the model's file to run its code")
    table = (
        "a .csv, .parquet or .jsonl table, .npz with arrays X and y, or a folder of .parquet or "
        ".npy files"
    )
    opens = name in ("query", "report")
    more = "; not needed with --index" if opens else ""
    text = f"training rows: {table}{more}"
    one.add_argument("--train", required=not opens, metavar="FILE", help=text)
    if opens:
        one.add_argument("--index", metavar="FOLDER", help="ask an index that was built")
    if name not in ("index", "estimate"):
        one.add_argument("--queries", required=True, metavar="FILE", help="rows to explain")
    one.add_argument("--target", metavar="COLUMN", help="column with the targets, of tables")
    one.add_argument("--method", default="InfluenceFunction", help="attributor's class")
    one.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="parameter of the method"
    )
    one.add_argument("-v", "--verbose", action="count", default=0, help="show progress")
    return one


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    arguments : sequence of str, default=None
        None uses those of the process.

    Returns
    -------
    int
        Exit code: 0 done, 1 an input was refused, 130 interrupted.
    """
    options = parser().parse_args(arguments)
    with warnings.catch_warnings():
        warnings.showwarning = _tell  # type: ignore[assignment]
        try:
            getattr(_commands, options.command)(options)
        except TOLD as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130
    return 0


def _tell(message: Warning | str, *_more: Any) -> None:
    print(f"warning: {message}", file=sys.stderr)
