"""All access to the kernel and to volumes' files: one module for each kind of object."""
