"""The count of a soak: seeds that are done, kept in a file from which a later run goes on."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path


class Count:
    """Seeds that are done, and the failures of each.

    Parameters
    ----------
    path : str or None
        File with a line of JSON for each seed; a run that finds it goes on from there.
    interval : float
        Seconds between two lines of the count.
    """

    def __init__(self, path: str | None, interval: float = 60.0):
        self.path, self.interval, self.said = path, interval, time.monotonic()
        self.failures = _read(path)

    def add(self, seed: int, failures: list[dict]) -> None:
        """Keep what was found in a case, print its failures, and the count now and then."""
        self.failures[seed] = failures
        if self.path is not None:
            with open(self.path, "a", encoding="utf-8") as file:
                print(json.dumps({"seed": seed, "failures": failures}), file=file)
        for failure in failures:
            print(json.dumps(failure, ensure_ascii=False), flush=True)
        if time.monotonic() - self.said >= self.interval:
            self.say()

    def say(self) -> None:
        """Print the count."""
        self.said = time.monotonic()
        print(self, file=sys.stderr, flush=True)

    @property
    def broken(self) -> list[int]:
        """Seeds with a failure."""
        return sorted(seed for seed, failures in self.failures.items() if failures)

    def __str__(self) -> str:
        done = self.failures
        seeds = f" (seeds {min(done):,} to {max(done):,})" if done else ""
        words = f"{len(done):,} cases{seeds}, {len(self.broken):,} with a failure"
        return words + (f": {', '.join(map(str, self.broken))}" if self.broken else "")


def _read(path: str | None) -> dict[int, list[dict]]:
    """What a file says; a last line that a kill cut off is not counted, and taken away."""
    if path is None or not Path(path).exists():
        return {}
    text = Path(path).read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        Path(path).write_text(whole, encoding="utf-8")
    lines = [json.loads(line) for line in whole.splitlines()]
    return {line["seed"]: line["failures"] for line in lines}
