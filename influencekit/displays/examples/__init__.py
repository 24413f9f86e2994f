"""Pictures, bars and texts of top examples."""
