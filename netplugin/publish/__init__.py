"""Ports that an administrator opens and closes on containers that run."""
