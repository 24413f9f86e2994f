"""A damping for people who choose none."""

from __future__ import annotations

from influencekit.curvature._spectrum import Spectrum

__all__ = ["auto_damping"]

#: Multiple of the mean eigenvalue.
SCALE = 1.0


def auto_damping(spectrum: Spectrum) -> float:
    """Multiple of the mean eigenvalue of the data's curvature."""
    return SCALE * float(spectrum.data_eigenvalues.mean())
