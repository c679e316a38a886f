"""Names of containers across the hosts of an overlay: who has which, and what is answered to whom asks."""
