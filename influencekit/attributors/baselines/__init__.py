"""Scores that know nothing of gradients."""
