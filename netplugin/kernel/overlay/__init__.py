"""The kernel's side of an overlay: VXLAN devices, where their frames go, and from where they may come."""
