"""JSON in and out: requests of the engine, and records in the store, through one codec.

Unknown fields are ignored as Go does, a missing or mistyped field is an error that names it, and an empty body is never
taken for `{}`: dockerd re-sends a request whose answer it missed with its body already drained.
"""

from __future__ import annotations

import ipaddress
from typing import Any, TypeVar

import msgspec

from pluginkit.errors import BadRequest

T = TypeVar("T")

_ADDRESS_TYPES = (
    ipaddress.IPv4Address,
    ipaddress.IPv6Address,
    ipaddress.IPv4Interface,
    ipaddress.IPv6Interface,
    ipaddress.IPv4Network,
    ipaddress.IPv6Network,
)


def _from_text(wanted: type[Any], value: Any) -> Any:
    if wanted in _ADDRESS_TYPES:
        # ipaddress takes integers too, and would make 0.0.0.1 of `true`.
        if not isinstance(value, str):
            raise ValueError(f"Expected `str`, got `{type(value).__name__}`")
        return wanted(value)
    raise NotImplementedError(f"no codec for {wanted}")


def _to_text(value: Any) -> str:
    if isinstance(value, _ADDRESS_TYPES):
        return str(value)
    raise NotImplementedError(f"no codec for {type(value)}")


_encoder = msgspec.json.Encoder(enc_hook=_to_text)


def encode(value: Any) -> bytes:
    """Return `value` as JSON; addresses become their usual text."""
    return _encoder.encode(value)


def decode(body: bytes, wanted: type[T]) -> T:
    """Return `body` as a `wanted`.

    Raises: BadRequest: an empty body, no JSON, a missing field or a wrong type; the message names the field.
    """
    if not body.strip():
        raise BadRequest(
            f"cannot read {wanted.__name__}: the body is empty. dockerd re-sends a request without its body when the"
            " connection broke; repeat the command"
        )
    try:
        return msgspec.json.decode(body, type=wanted, dec_hook=_from_text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise BadRequest(f"cannot read {wanted.__name__}: {exc}") from exc
