"""The estimator inside a fitted model: read, copied, and given rows."""
