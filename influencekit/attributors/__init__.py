"""Attribution methods, one a file."""

from influencekit.attributors._further_training import FurtherTraining
from influencekit.attributors._grad_cos import GradCos
from influencekit.attributors._grad_dot import GradDot
from influencekit.attributors._influence_function import InfluenceFunction

__all__ = ["FurtherTraining", "GradCos", "GradDot", "InfluenceFunction"]
