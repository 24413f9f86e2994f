"""Influence of training rows on forests and boosted trees, with the structure of the trees held."""
