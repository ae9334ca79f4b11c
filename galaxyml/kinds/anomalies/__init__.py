"""What is unlike all known classes."""
