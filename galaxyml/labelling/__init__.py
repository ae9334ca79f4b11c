"""Labels by a person, one object after the other, in the order in which they teach most."""
