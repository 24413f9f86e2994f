"""Training-data attribution for scikit-learn and torch."""
