"""Which layers have factored gradients, and how they are found."""
