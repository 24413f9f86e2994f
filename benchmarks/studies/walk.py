"""How far does one call walk through the package: files, moves between files, deepest stack?"""

from benchmarks.harness import Size, Study
from benchmarks.walk import walk_of


def row(curvature):
    walk = walk_of(curvature)
    return {"files": len(walk.files), "lines": walk.lines, "moves": walk.moves,
            "deepest": len(walk.deepest)}  # fmt: skip


STUDY = Study(
    __doc__, row, {"curvature": ["ggn", "fisher", "ekfac"]}, quick=Size({"curvature": ["ggn"]})
)
