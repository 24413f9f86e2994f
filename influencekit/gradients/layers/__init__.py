"""Layers with factored gradients, and how they are found."""
