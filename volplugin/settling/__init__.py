"""Records and kernel brought together, at the start and every now and then."""
