"""What both plugins share: serving the protocol, keeping records, making the kernel match them.

Nothing in here knows what a network or a volume is.
"""
