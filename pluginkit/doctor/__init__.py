"""What the plugins' doctors have in common."""
