"""Scores combined with retrained outputs."""
