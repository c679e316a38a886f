"""Several whole machines on one: each host is a network, mount and process namespace on a common wire.

Nothing of a lab is visible outside it: links, mounts, firewall rules and processes all live in namespaces that end with
one process each. Loop devices and cgroups are the machine's own; `machine.py` gives them back.
"""
