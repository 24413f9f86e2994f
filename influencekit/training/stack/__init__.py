"""Many models in training at once, whoever trains them."""
