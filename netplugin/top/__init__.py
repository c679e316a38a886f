"""What containers send and receive, as it happens."""
