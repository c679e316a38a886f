"""The host's firewall, by iptables or by nftables."""
