"""Putting a plugin on a host, and taking it away: units, configuration file, state directory."""
