"""Rules that choose the damping λ."""

from influencekit.damping._default import auto_damping

__all__ = [
    "auto_damping",
]
