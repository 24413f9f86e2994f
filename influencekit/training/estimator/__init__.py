"""The estimator inside a fitted model: how it is found, copied and fitted."""
