"""Votes of several campaigns and surveys."""
