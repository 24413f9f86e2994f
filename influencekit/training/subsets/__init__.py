"""A model trained again on subsets of its training rows."""
