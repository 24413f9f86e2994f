"""Losses of models that hold other models."""
