"""Snapshots of several volumes at one instant, and at set times."""
