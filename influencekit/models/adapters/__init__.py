"""Reads fitted models of each library as tasks."""
