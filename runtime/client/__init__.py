"""The commands of pyrun for machines without the docker CLI. They know the Engine API alone, not the daemon."""
