"""What is wrong with volumes, found by holding records, kernel and engine against each other."""
