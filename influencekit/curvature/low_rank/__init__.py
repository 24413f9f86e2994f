"""Curvatures approximated by a few of their directions."""
