"""The command line: what a person types, help, and errors in words."""
