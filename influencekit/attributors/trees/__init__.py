"""Influence of training rows on forests and boosted trees, with the tree structure held fixed."""
