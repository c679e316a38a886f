"""What both plugins' command lines, and pynet in threads of its own, ask of an engine."""
