"""The neural network: encoding, layers, training."""
