"""Pools: filesystems in files that hold volumes, so that copies of these take no time."""
