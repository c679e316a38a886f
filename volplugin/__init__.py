"""pyvol: a Docker volume driver. Local volumes with a hard size, and directories of the host within bounds."""
