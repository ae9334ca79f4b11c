"""Classes that exclude each other."""
