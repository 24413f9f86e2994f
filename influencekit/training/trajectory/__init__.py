"""Training runs that are recorded, replayed and differentiated."""
