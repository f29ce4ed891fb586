"""CMA-ES and its parts."""
