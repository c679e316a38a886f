"""The command that shows the console: where names and findings come from."""
