"""What the use cases reach at a scale of minutes: see README.md."""
