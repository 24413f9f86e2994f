"""How the damping λ is chosen, by every rule that there is."""

from influencekit.damping._default import auto_damping
from influencekit.damping._xi_omega import xi_omega

__all__ = [
    "auto_damping",
    "xi_omega",
]
