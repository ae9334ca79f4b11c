"""The objects of any set that are most like others, as a finished run sees them."""
