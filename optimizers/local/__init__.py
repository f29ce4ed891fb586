"""Methods that go on from where they are: annealing, tempering, gradients, ensemble Kalman inversion."""
