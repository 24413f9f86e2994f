"""Kronecker-factored curvatures: moments of the factors, bases, eigenvalues, products."""
