"""Curvatures decomposed exactly: Gauss-Newton, Fisher, Hessian."""
