"""Attribution methods, one a file."""

from influencekit.attributors._adamw_influence import AdamWInfluence
from influencekit.attributors._further_training import FurtherTraining
from influencekit.attributors._grad_cos import GradCos
from influencekit.attributors._grad_dot import GradDot
from influencekit.attributors._influence_function import InfluenceFunction
from influencekit.attributors._loss import Loss
from influencekit.attributors._random import Random
from influencekit.attributors._sgd_influence import SGDInfluence
from influencekit.attributors._tracin import TracIn
from influencekit.attributors._trak import TRAK

__all__ = [
    "TRAK",
    "AdamWInfluence",
    "FurtherTraining",
    "GradCos",
    "GradDot",
    "InfluenceFunction",
    "Loss",
    "Random",
    "SGDInfluence",
    "TracIn",
]
