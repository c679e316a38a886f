"""Ports of the host: held, reserved, and what still flows to them."""
