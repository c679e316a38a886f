"""What is done for filesystems now and then."""
