"""Catalogs and images to batches."""
