"""Curvatures that are solved separately for every damping."""
