"""One network over many hosts: what it is made of, in pure functions."""
