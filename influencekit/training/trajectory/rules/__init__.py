"""Steps of optimizers, which recorded runs go through forwards and backwards."""
