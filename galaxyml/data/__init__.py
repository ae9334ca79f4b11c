"""Catalogs and pictures to batches."""
