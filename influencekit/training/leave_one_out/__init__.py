"""Reruns of a recorded training run, each without one example."""
