"""Experiments that teach machines to see galaxies."""

__version__ = "0.1.0"
