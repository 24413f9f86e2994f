"""Curvatures that are solved for every damping."""
