"""How the damping λ is chosen, by every rule that there is."""

from influencekit.damping._cosine import (
    grad_dot_cosine,
    grad_dot_cosines,
    gram_damping,
    row_cosines,
    spectrum_damping,
)
from influencekit.damping._default import auto_damping, convex_damping
from influencekit.damping._effective_sample_size import least_damping
from influencekit.damping._grid import damping_range
from influencekit.damping._matched import matched_damping
from influencekit.damping._sketch import sketch_damping
from influencekit.damping._xi import score_vector_cosine, score_vector_xi

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
