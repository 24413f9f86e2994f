"""What several studies measure of a problem."""
