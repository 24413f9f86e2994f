"""Random projections of gradients."""
