"""How the damping λ is chosen, by every rule that there is."""

from influencekit.curvature._spectrum import grad_dot_cosines, row_cosines
from influencekit.damping._default import (
    auto_damping,
    convex_damping,
    damping_range,
    gram_damping,
    least_damping,
    sketch_damping,
    spectrum_damping,
)
from influencekit.damping._indicators import (
    grad_dot_cosine,
    score_vector_cosine,
    score_vector_xi,
)
from influencekit.damping._matched import matched_damping

__all__ = [
    "auto_damping",
    "convex_damping",
    "damping_range",
    "grad_dot_cosine",
    "grad_dot_cosines",
    "gram_damping",
    "least_damping",
    "matched_damping",
    "row_cosines",
    "score_vector_cosine",
    "score_vector_xi",
    "sketch_damping",
    "spectrum_damping",
]
