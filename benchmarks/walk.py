"""How far one call walks: files entered, moves between files and deepest stack of the package.

python benchmarks/walk.py
python benchmarks/walk.py --curvature ekfac
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

import influencekit
from influencekit import InfluenceFunction

PACKAGE = str(Path(influencekit.__file__).parent)


class Walk:
    """Notes the frames of the package while it is active."""

    def __init__(self) -> None:
        self.files: set[str] = set()
        self.moves, self.deepest = 0, []
        self._stack: list[str] = []
        self._names: list[str] = []

    def __call__(self, frame, event, _):
        file = frame.f_code.co_filename
        if not file.startswith(PACKAGE):
            return
        if event == "call":
            if not self._stack or self._stack[-1] != file:
                self.moves += 1
            self._stack.append(file)
            self.files.add(file)
            if len(self._stack) > len(self.deepest):
                self.deepest = [*self._names, frame.f_code.co_qualname]
            self._names.append(frame.f_code.co_qualname)
        elif event == "return" and self._stack:
            self._stack.pop()
            self._names.pop()

    def __enter__(self):
        sys.setprofile(self)
        return self

    def __exit__(self, *_):
        sys.setprofile(None)

    @property
    def lines(self) -> int:
        """Of all files that were entered."""
        texts = (Path(file).read_text(encoding="utf-8") for file in self.files)
        return sum(len(text.splitlines()) for text in texts)


def walk_of(curvature: str) -> Walk:
    """The walk of fit and score on iris."""
    X, y = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=1000).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Walk() as walk:
            InfluenceFunction(curvature).fit(model, X, y).score(X[:2], y[:2])
    return walk


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--curvature", default="ggn")
    walk = walk_of(parser.parse_args().curvature)
    print(
        f"{len(walk.files)} files of {walk.lines:,} lines, "
        f"{walk.moves} moves between files, stack {len(walk.deepest)} deep"
    )
    print("deepest stack:", *walk.deepest, sep="\n  ")
    for file in sorted(walk.files):
        print(" ", Path(file).relative_to(PACKAGE))


if __name__ == "__main__":
    main()
