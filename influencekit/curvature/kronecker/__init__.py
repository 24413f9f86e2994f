"""Kronecker-factored curvatures: moments of the factors, bases, eigenvalues, products."""

from influencekit.curvature.kronecker._kfac import EKFAC, KFAC

__all__ = ["EKFAC", "KFAC"]
