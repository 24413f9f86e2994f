"""Derivatives along a recorded training run."""
