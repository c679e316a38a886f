"""The drivers: programs of others, found by a socket or a file of their name and asked over HTTP, as dockerd does."""
