"""Gradients of one layer, by how they are held."""
