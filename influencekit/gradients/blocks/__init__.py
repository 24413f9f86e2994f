"""Gradients of one layer, one class for each way to store them."""
