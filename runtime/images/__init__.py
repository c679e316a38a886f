"""Images: names, layers by digest, and archives."""
