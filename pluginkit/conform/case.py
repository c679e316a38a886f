"""How a case ends that does not pass."""

from __future__ import annotations


class Failed(Exception):
    """The driver did something else; the message says what."""


class NotOffered(Exception):
    """The driver has nothing like it, or nobody here can bring it about; the message says what."""


def expect(holds: object, otherwise: str) -> None:
    """`holds` is true.

    Raises: Failed: it is not.
    """
    if not holds:
        raise Failed(otherwise)
