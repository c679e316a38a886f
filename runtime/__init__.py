"""pyrun: a small container runtime that speaks a subset of the Docker Engine API, over conmon and runc."""
