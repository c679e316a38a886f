"""A real packet, sent where another one would have come from, and where it was seen."""
