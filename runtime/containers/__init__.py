"""Containers: what they are, and what happens to them."""
