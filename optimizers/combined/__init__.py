"""Methods made of other optimizers, foreign ones included."""
