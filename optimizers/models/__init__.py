"""Methods that fit a model of the loss: Bayesian optimization, Parzen estimators."""
