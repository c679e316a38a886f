"""What pynet asks of the engine, outside of every request: inside of one the engine would wait for itself."""
