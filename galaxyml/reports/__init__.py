"""Runs, sweeps and comparisons as report.md and report.html."""
