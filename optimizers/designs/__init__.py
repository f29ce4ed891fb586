"""Designs: individuals that do not depend on what was told."""
