"""What authors of methods and curvatures may not return is told at once, with what is asked for."""

import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from influencekit import BaseAttributor, InfluenceFunction
from influencekit.curvature import Curvature, FittedCurvature

X, Y = load_iris(return_X_y=True)
MODEL = LogisticRegression(max_iter=2000).fit(X, Y)


class LearnsIntoItself(BaseAttributor):
    def _fit(self, task, train):
        self.learned_ = train


class Returning(Curvature):
    def __init__(self, make):
        self.make = make

    def factorize(self, problem):
        return self.make(problem)


class WithoutProblem(FittedCurvature):
    def __init__(self, problem):
        pass

    def products(self, queries, damping):
        return queries.dot(self.problem.train).cpu().numpy()

    def self_products(self, damping):
        return self.problem.train.squared_norms()


class Numpy(WithoutProblem):
    def __init__(self, problem):
        self.problem = problem


def test_fit_must_return_a_fitted():
    said = "LearnsIntoItself._fit returned a NoneType; it must return a Fitted"
    with pytest.raises(TypeError, match=said):
        LearnsIntoItself().fit(MODEL, X, Y)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda problem: problem.penalty, "Returning.factorize returned a Tensor; it must return"),
        (WithoutProblem, "returned a WithoutProblem without the attribute 'problem'"),
        (Numpy, "Numpy.products returned a ndarray; it must return a Tensor"),
    ],
)
def test_factorize_must_return_a_fitted_curvature(make, said):
    with pytest.raises(TypeError, match=said):
        InfluenceFunction(Returning(make), damping=0.1).fit(MODEL, X, Y).score(X[:2], Y[:2])
