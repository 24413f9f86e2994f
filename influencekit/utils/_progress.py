"""Progress that is silent unless asked for: bars on screens, a few lines in logs."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import tqdm.auto
import tqdm.std

__all__ = ["progress"]

#: Seconds between lines in a log.
LOG_SECONDS = 30


def progress(items: Iterable | None, description: str, verbose: int = 0, **options: Any) -> Any:
    """Go through items, and show how far it is if ``verbose`` is positive.

    Terminals show a bar, notebooks a widget (or a bar, without ipywidgets).  Where the error
    stream is a file or a pipe, a line is written every 30 seconds and at the end.

    Parameters
    ----------
    items : iterable or None
        None for ``update`` and ``close`` by hand.
    description : str
        What is being done, shown before the bar.
    verbose : int, default=0
    **options
        Further arguments of tqdm, such as ``total``, or ``leave=False`` for what is inside
        another loop, which leaves no bar and no last line.

    Returns
    -------
    items : tqdm
        The same items.
    """
    bar = tqdm.auto.tqdm if _redraws() else _LogLines
    return bar(items, desc=description, disable=verbose <= 0, **options)


def _redraws() -> bool:
    """Whether what is written can be drawn over: terminals and notebooks."""
    if tqdm.auto.notebook_tqdm is not tqdm.std.tqdm:
        return True  # ipywidgets are there
    return sys.stderr.isatty() or type(sys.stderr).__module__.startswith("ipykernel")


class _LogLines(tqdm.std.tqdm):
    """A bar that writes lines, as a log needs them."""

    monitor_interval = 0  # no thread that redraws

    def __init__(self, *args: Any, **options: Any):
        text = "{desc}: {n_fmt} of {total_fmt} after {elapsed}, {remaining} to go, {rate_fmt}"
        pace = {"mininterval": LOG_SECONDS, "delay": LOG_SECONDS}
        super().__init__(*args, **pace, bar_format=text, **options)

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        self.fp.write(f"{self}\n")
        return True

    def close(self) -> None:
        if self.disable:
            return
        self.disable: bool = True
        self._decr_instances(self)
        if self.leave and (self.n > self.last_print_n or not self.n):
            self.display()
