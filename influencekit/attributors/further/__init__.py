"""Further training with and without examples."""
