"""What an administrator's socket offers, described for programs."""
