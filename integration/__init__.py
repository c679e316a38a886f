"""The user's commands, run by the stock docker CLI against a real engine with both plugins."""
