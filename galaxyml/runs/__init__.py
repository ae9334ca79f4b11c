"""What everybody may use: a run's folder, provenance, seeds, files, progress and errors."""
