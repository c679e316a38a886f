"""The only rooms of pynet that touch the kernel, one module per subsystem, each with ensure, remove and owned."""
