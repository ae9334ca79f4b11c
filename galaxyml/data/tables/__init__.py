"""Tables of catalogues and labels, read and checked."""
