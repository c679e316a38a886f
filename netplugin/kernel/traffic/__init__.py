"""What flows over links: how fast, from whom, and who is told where."""
