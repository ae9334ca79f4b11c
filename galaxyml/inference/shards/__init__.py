"""Predictions of any number of objects in shards: each is one file, whole or not at all, whichever engine makes it."""
