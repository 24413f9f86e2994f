"""Studies of how scores depend on hyperparameters."""
