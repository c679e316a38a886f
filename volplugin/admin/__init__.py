"""What the administrator asks of pyvol, and nobody else."""
