"""One registry of problems: data, a net, and the recipe that trains it."""

from benchmarks.problems.registry import Problem, Spec, load, names, problem

__all__ = ["Problem", "Spec", "load", "names", "problem"]
