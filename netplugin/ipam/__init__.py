"""pynet as an IPAM driver: pools and their addresses."""
