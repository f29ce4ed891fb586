"""Evolution strategies and cross-entropy: a distribution is moved towards what was better."""
