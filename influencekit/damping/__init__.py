"""Rules that choose the damping λ."""

from influencekit.damping._default import auto_damping
from influencekit.damping._xi_omega import xi_omega

__all__ = [
    "auto_damping",
    "xi_omega",
]
