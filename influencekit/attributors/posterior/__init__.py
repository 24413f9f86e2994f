"""Scores and retrained outputs put together."""
