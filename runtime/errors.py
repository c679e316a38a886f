"""What can go wrong, as the Engine API tells it: an HTTP status and {"message": …}.

ApiError                 the message starts "cannot …", names the object and the way out
├── BadParameter     400
├── NotFound         404
├── Conflict         409
├── Failed           500   the kernel, runc, conmon or a plugin refused
└── Unsupported      501   a part of the Engine API that pyrun does not have
"""

from __future__ import annotations


class ApiError(Exception):
    """An expected failure. `status` is that of the HTTP answer."""

    status = 500


class BadParameter(ApiError):
    """The request cannot be used as it is."""

    status = 400


class NotFound(ApiError):
    """There is no such object."""

    status = 404


class Conflict(ApiError):
    """The object is in a state, or has a name, that does not allow it."""

    status = 409


class Failed(ApiError):
    """The kernel, a program or a plugin refused."""


class Unsupported(ApiError):
    """The Engine API has it and pyrun has not."""

    status = 501
