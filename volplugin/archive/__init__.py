"""Volumes as archives: one stream that is a whole volume at an instant."""
