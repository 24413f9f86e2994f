"""Random models, data and options against laws that hold for all of them."""
