"""Packets of containers and networks, into a file that Wireshark reads."""
