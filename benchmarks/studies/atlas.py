"""Which method says best what retraining shows, by question and kind of model?

Our methods on the ground truth of the Attribution Atlas (``benchmarks/atlas``).  ``python -m
benchmarks atlas score`` scores any method, of other libraries and from outside too, by the same
function; ``atlas keep`` makes the results that the docs show of the scores of all methods.
"""

from benchmarks.atlas import tables as atlas_tables
from benchmarks.atlas.cells import CELLS
from benchmarks.atlas.ours import METHODS
from benchmarks.atlas.score import row_of
from benchmarks.harness import Size, Study
from influencekit.datasets import load_ground_truth


def row(method, truth):
    return row_of(METHODS[method], load_ground_truth(truth))


STUDY = Study(
    __doc__, row, {"method": list(METHODS), "truth": list(CELLS)},
    quick=Size({"method": ["GradDot", "InfluenceFunction"], "truth": ["iris-linear"]}),
    tables=atlas_tables.tables,
    needs=("acs_income_2018", "uci_concrete", "mnist", "cifar2", "sst2", "wikitext2",
           "lm_stories260k"),
    shows_failures=True,
)  # fmt: skip
