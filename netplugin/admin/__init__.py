"""What administrators ask of a pynet that runs, by a socket of its own in the state directory."""
