"""Figures of a sensitivity study."""
