"""The cases, area by area."""
