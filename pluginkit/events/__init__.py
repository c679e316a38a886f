"""What happens in a plugin, told to whoever listens at the moment, and for a while to who comes later."""
