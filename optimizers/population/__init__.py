"""Methods that keep a population: genetic, differential evolution, swarms, several objectives, diversity."""
