"""The Attribution Atlas: models with their ground truth, and scores of methods."""
