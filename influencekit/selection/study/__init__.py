"""The study of how scores depend on hyperparameters."""
