"""Do the group forms of Fisher and TRAK tell what leaving groups out does, and at which damping?

As ``groups``, of a linear model: LDS over random halves of the groups, and Spearman
correlation with leaving each group out, of one retraining each.  At "0.01" all methods have this λ;
with "auto" each has the one of its own default rule.
"""

from benchmarks.harness import Size, Study
from benchmarks.measures.grouped import GROUPERS, by_damping
from benchmarks.studies import groups


def row(**cell):
    return groups.row(**cell, made=by_damping)


STUDY = Study(
    __doc__, row, {"data": ["sst2-linear"], "grouper": list(GROUPERS), "seed": [0, 1]},
    {"n_train": 2000, "n_groups": 40, "n_test": 60, "n_subsets": 30, "n_repeats": 1, "dim": 1024},
    quick=Size({"data": ["wine-linear"], "grouper": ["random"], "seed": [0]},
               {"n_train": 60, "n_groups": 4, "n_test": 5, "n_subsets": 6, "dim": 16}),
    tables=groups.tables, needs=("sst2",),
)  # fmt: skip
