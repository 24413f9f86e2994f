"""How examples of one model become coordinates, for every kind of fitted attributor."""
