"""Queueing disciplines: RTM_GETQDISC. Source: rtnetlink(7); linux/rtnetlink.h, struct tcmsg."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from netplugin.kernel.nlattr import attributes
from netplugin.kernel.rtnetlink.asking import Asking

_GETQDISC = 38
_TCMSG = struct.Struct("=BxxxiIII")
_TCA_KIND = 1


@dataclass(frozen=True)
class Qdisc:
    """A queueing discipline. index: of its link."""

    index: int
    kind: str
    handle: int
    parent: int


def qdiscs(asking: Asking) -> list[Qdisc]:
    """Return those of all links of this network namespace. Raises: KernelError."""
    return asking.all(_GETQDISC, _TCMSG.pack(0, 0, 0, 0, 0), _qdisc, "list", "qdiscs")


def _qdisc(body: bytes) -> Qdisc:
    _, index, handle, parent, _ = _TCMSG.unpack_from(body)
    kind = attributes(body[_TCMSG.size :]).get(_TCA_KIND, b"")
    return Qdisc(index, kind.rstrip(b"\0").decode(), handle, parent)
