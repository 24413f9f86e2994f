"""How well does the derivative of one recorded run answer what that run does without some rows?

Truth: reruns without random sets of 10% and of 1% of the rows.  LDS (Spearman) of each form of the
curvature and of the one that ``curvature="auto"`` takes, beside ``expected_lds_``.  Runs and bars
were written down before the first run: chosen on seed 9, reported on seeds 0 and 1.  A rate counts
as moderate where the adjoint grows at most tenfold from the end of the run to its start.
"""

import numpy as np

from benchmarks.harness import Size, Study, Table
from benchmarks.harness.tables import short
from benchmarks.measures import single_runs
from benchmarks.problems import runs

#: Data, optimizer (SGD has momentum 0.9), rate, activation.
SETTINGS = {
    "digits, SGD": ("digits", "sgd", 0.02, "relu"),
    "digits, SGD, 5 times the rate": ("digits", "sgd", 0.1, "relu"),
    "digits, AdamW": ("digits", "adamw", 0.001, "relu"),
    "digits, AdamW, 3 times the rate": ("digits", "adamw", 0.003, "relu"),
    "ACSIncome, SGD": ("census", "sgd", 0.01, "relu"),
    "ACSIncome, SGD, 3 times the rate": ("census", "sgd", 0.03, "relu"),
    "ACSIncome, SGD, 10 times the rate": ("census", "sgd", 0.1, "relu"),
    "ACSIncome, AdamW": ("census", "adamw", 0.003, "relu"),
    "wine, SGD": ("wine", "sgd", 0.03, "relu"),
    "wine, AdamW": ("wine", "adamw", 0.01, "relu"),
    "digits, SGD, GELU": ("digits", "sgd", 0.1, "gelu"),
    "ACSIncome, AdamW, GELU": ("census", "adamw", 0.003, "gelu"),
    "wine, AdamW, tanh": ("wine", "adamw", 0.01, "tanh"),
}
