"""Labels by hand: what a person is asked next, and where the answers go."""
