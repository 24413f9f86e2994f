"""Measurements of influencekit: problems, studies, a harness that runs them, and kept results."""
