"""Nets of light curves: encoders of irregular observations, and a decoder that is asked for times and passbands."""
