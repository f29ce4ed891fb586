"""How good the optimizers are, beside the libraries of the field. README.md says how to run it."""
