"""Public data by one command: what there is, how it is downloaded and checked, and where it comes to lie."""
