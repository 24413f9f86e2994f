"""Influence functions."""
