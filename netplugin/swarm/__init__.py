"""Networks of a swarm: what its managers give out, and which nodes it has."""
