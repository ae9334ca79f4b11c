"""Nets: images in [0, 1] to scores."""
