"""Fitted trees, forests and boosted trees in one format, read from each library's own structure."""
