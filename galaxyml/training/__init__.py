"""Modules that fit nets, and what happens beside the fitting."""
