"""How the damping λ is chosen, by every rule that there is."""

from influencekit.damping._default import auto_damping

__all__ = [
    "auto_damping",
]
