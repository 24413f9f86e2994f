"""Inner products of gradients."""
