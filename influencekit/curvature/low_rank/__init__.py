"""Curvatures by a few of their directions."""
