"""A model retrained on subsets of its training rows."""
