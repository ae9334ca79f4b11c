"""Vote fractions of a decision tree."""
