"""Coverage-guided fuzzing: each module of `targets` takes any bytes, and raises what must never happen."""
