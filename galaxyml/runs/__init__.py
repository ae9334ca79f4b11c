"""Parts that every room may use: a run's folder, provenance, seeds, files, progress and errors."""
