"""Baseline scores that do not use gradients."""
