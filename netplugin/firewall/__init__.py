"""What the host's firewall shall do for networks and endpoints: pure, in the words of either backend."""
