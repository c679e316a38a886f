"""Whether volumes behave as Docker, POSIX and their users expect: of any driver, of any engine."""
