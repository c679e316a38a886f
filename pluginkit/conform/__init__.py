"""What `pynet conform` and `pyvol conform` have in common: cases, what came of them, and containers of an engine."""
