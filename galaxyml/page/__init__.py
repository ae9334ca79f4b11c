"""A web page on which a person tries a trained run: `python -m galaxyml page RUN`."""
