"""Further training of a fitted model with and without each example."""
