"""A damping for curvatures without eigenvalues: that of a small random projection."""

from __future__ import annotations

from dataclasses import replace

from influencekit.curvature import CurvatureProblem, decompose, ggn_rows
from influencekit.damping._cosine import spectrum_damping

__all__ = ["SKETCH_DIM", "sketch_damping"]

#: Dimensions of the projection.
SKETCH_DIM = 512


def sketch_damping(problem: CurvatureProblem) -> float:
    """Automatic damping of the Gauss-Newton matrix, projected to at most 512 dimensions.

    Parameters
    ----------
    problem : CurvatureProblem

    Returns
    -------
    float

    Notes
    -----
    At least the smallest eigenvalue of the projected data's part.  A projection spreads what has
    no room in it over all its directions, which then need no damping; the whole matrix, singular
    perhaps, has to be given as much.
    """
    small = replace(problem, projection_dim=SKETCH_DIM, projection="auto", random_state=0)
    spectrum = decompose(ggn_rows(small))
    found = spectrum_damping(spectrum)
    if problem.engine.task.n_parameters <= SKETCH_DIM:
        return found
    return max(found, float(spectrum.data_eigenvalues.min()))
