"""Elements of nf_tables sets and maps, written over netlink: the cost does not depend on how many are there already.

The nft program reads a whole set before it changes it. Source: linux/netfilter/nf_tables.h, nfnetlink.h, netlink(7).
"""

from __future__ import annotations

import errno
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from netplugin.kernel.nlattr import (
    NESTED,
    Message,
    attribute,
    attributes,
    each_attribute,
    message,
    messages,
    padded,
    string,
)
from pluginkit.errors import KernelError

TableFamily = Literal["inet", "ip", "arp", "netdev", "bridge", "ip6"]
VerdictCode = Literal["accept", "drop", "jump", "goto", "return", "continue"]

_FAMILY: dict[TableFamily, int] = {"inet": 1, "ip": 2, "arp": 3, "netdev": 5, "bridge": 7, "ip6": 10}
_CODE: dict[VerdictCode, int] = {"drop": 0, "accept": 1, "continue": -1, "jump": -3, "goto": -4, "return": -5}
_VERDICT: dict[int, VerdictCode] = {code: word for word, code in _CODE.items()}

_NLMSG_ERROR, _NLMSG_DONE, _BATCH_BEGIN, _BATCH_END = 2, 3, 0x10, 0x11
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_DUMP_INTR, _NLM_F_DUMP, _NLM_F_CREATE = 0x1, 0x4, 0x10, 0x300, 0x400
_SUBSYSTEM = 10  # NFNL_SUBSYS_NFTABLES
_GETTABLE, _DELTABLE, _NEWSETELEM, _GETSETELEM, _DELSETELEM = (_SUBSYSTEM << 8 | n for n in (1, 2, 12, 13, 14))
_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS = 1, 2, 3
_KEY, _DATA, _USERDATA, _KEY_END = 1, 2, 6, 10
# In user data, which is of libnftnl's making: one byte of type, one of length, the text with a zero at its end.
_COMMENT = 0
_DATA_VALUE, _DATA_VERDICT, _VERDICT_CODE, _VERDICT_CHAIN = 1, 2, 1, 2
_NETLINK_NETFILTER, _SOL_NETLINK, _NETLINK_CAP_ACK = 12, 270, 10
# An attribute's length has 16 bits, and that of the list counts all the elements in one message.
_LIST_BYTES = 32 * 1024
# A refused batch is answered message by message, before anybody can read. Python has no names for these two.
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_SEND_BYTES, _ANSWER_BYTES = 256 * 1024, 32 * 1024 * 1024
_DUMP_TRIES = 10


@dataclass(frozen=True)
class Verdict:
    """What a verdict map answers. chain: where jump and goto lead."""

    code: VerdictCode
    chain: str = ""


@dataclass(frozen=True)
class Element:
    """One element, in the bytes that the kernel compares; `concat` makes those of a concatenation.

    key_end: the last key of an interval, in sets of a concatenated type with `flags interval` only; there a single
    value is read back with a key_end equal to its key. data: what a map answers; None in a set. comment: for people and
    for us, up to 128 bytes; the kernel keeps it and does not look at it.
    """

    key: bytes
    key_end: bytes | None = None
    data: bytes | Verdict | None = None
    comment: str = ""


class _Change(NamedTuple):
    kind: int
    flags: int
    family: TableFamily
    content: bytes
    operation: str
    subject: str


@dataclass
class Batch:
    """Changes that `commit` makes all together, in the order in which they were noted, or not at all."""

    messages: list[_Change] = field(default_factory=list)

    def add(self, family: TableFamily, table: str, name: str, elements: Iterable[Element]) -> None:
        """Noted: the elements are in the set. Other data for a key that a map has needs a delete before, or EBUSY."""
        chunk = b""
        for element in map(_element, elements):
            if len(chunk) + len(element) > _LIST_BYTES:
                self._note(_NEWSETELEM, _NLM_F_CREATE, family, table, name, chunk)
                chunk = b""
            chunk += element
        if chunk:
            self._note(_NEWSETELEM, _NLM_F_CREATE, family, table, name, chunk)

    def delete(self, family: TableFamily, table: str, name: str, elements: Iterable[Element]) -> None:
        """Noted: elements of these keys are not in the set, which need not exist, nor its table."""
        # One message each: the kernel refuses the whole message for one element that is not there.
        for element in elements:
            bare = _element(Element(element.key, element.key_end))
            self._note(_DELSETELEM, 0, family, table, name, bare)

    def delete_table(self, family: TableFamily, table: str) -> None:
        """Noted: the table does not exist."""
        self.messages.append(
            _Change(_DELTABLE, 0, family, string(_LIST_TABLE, table), "delete", f"table {family} {table}")
        )

    def _note(self, kind: int, flags: int, family: TableFamily, table: str, name: str, elements: bytes) -> None:
        attributes = _list(table, name) + attribute(_LIST_ELEMENTS | NESTED, elements)
        operation = "add to" if kind == _NEWSETELEM else "delete from"
        self.messages.append(_Change(kind, flags, family, attributes, operation, f"set {family} {table} {name}"))


class Nfnetlink:
    """An nfnetlink socket, opened when first needed; threads may share it and take turns, as in the kernel.

    It stays open: to close one waits until the kernel has freed all that was deleted, 10 to 20 ms. changing: called
    with the netlink port before each change; who has the socket calls it for the programs that change things for him.
    """

    def __init__(self, changing: Callable[[int], None] = lambda _port: None) -> None:
        self.changing = changing
        self._turn = threading.Lock()
        self._socket: socket.socket | None = None

    def close(self) -> None:
        """The socket is closed; the next request opens another."""
        with self._turn:
            self._close()

    def commit(self, batch: Batch) -> None:
        """Everything noted in `batch` is so. What is to be deleted and does not exist is passed over.

        Raises: KernelError: the kernel refused one of the changes, so that none was made.
        """
        changes = batch.messages
        while changes:
            errors = self._transact(changes)
            for index, code in errors.items():
                change = changes[index]
                if code != errno.ENOENT or change.kind == _NEWSETELEM:
                    hint = "the table, the set or the chain does not exist" if code == errno.ENOENT else ""
                    raise KernelError(change.operation, change.subject, code, hint)
            if not errors:
                return
            # Nothing was done, because of what does not exist; the rest is tried again without it.
            changes = [change for index, change in enumerate(changes) if index not in errors]

    def add(self, family: TableFamily, table: str, name: str, elements: Iterable[Element]) -> None:
        """The elements are in the set. Raises: KernelError: as for `commit`."""
        batch = Batch()
        batch.add(family, table, name, elements)
        self.commit(batch)

    def delete(self, family: TableFamily, table: str, name: str, elements: Iterable[Element]) -> None:
        """Elements of these keys are not in the set. Raises: KernelError: as for `commit`."""
        batch = Batch()
        batch.delete(family, table, name, elements)
        self.commit(batch)

    def elements(self, family: TableFamily, table: str, name: str) -> list[Element]:
        """Return the elements of a set, in no order; none if the set or its table does not exist.

        Raises: KernelError: the kernel refused, or others changed the set each time that it was read.
        """
        subject = f"set {family} {table} {name}"
        request = _message(_GETSETELEM, _NLM_F_DUMP, 1, _FAMILY[family], _list(table, name))
        for _ in range(_DUMP_TRIES):
            with self._request("read", subject) as netlink:
                netlink.send(request)
                found = _dump(netlink, subject)
            if found is not None:
                return found
        raise KernelError("read", subject, errno.EINTR)

    def has_table(self, family: TableFamily, table: str) -> bool:
        """Tell whether the table exists. Raises: KernelError: the kernel refused."""
        subject = f"table {family} {table}"
        with self._request("read", subject) as netlink:
            netlink.send(_message(_GETTABLE, 0, 1, _FAMILY[family], string(_LIST_TABLE, table)))
            [answer] = _received(netlink)
        if answer.kind != _NLMSG_ERROR:
            return True
        code = -struct.unpack_from("=i", answer.body)[0]
        if code != errno.ENOENT:
            raise KernelError("read", subject, code)
        return False

    def _transact(self, changes: Sequence[_Change]) -> dict[int, int]:
        """The batch was applied if nothing is returned; return the errno by the position of what was refused."""
        last = len(changes)
        parts = [_message(_BATCH_BEGIN, 0, 0, 0, b"", _SUBSYSTEM)]
        for sequence, change in enumerate(changes, 1):
            # Errors are always told. The acknowledgement of the last message tells that there will be no more of them.
            flags = change.flags | (_NLM_F_ACK if sequence == last else 0)
            parts.append(_message(change.kind, flags, sequence, _FAMILY[change.family], change.content))
        parts.append(_message(_BATCH_END, 0, last + 1, 0, b"", _SUBSYSTEM))
        text = b"".join(parts)
        errors: dict[int, int] = {}
        with self._request("change", "the sets of nf_tables") as netlink:
            netlink.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, max(len(text) + 4096, _SEND_BYTES))
            self.changing(netlink.getsockname()[0])
            netlink.send(text)
            while True:
                for answer in _received(netlink):
                    kind, sequence, body = answer.kind, answer.sequence, answer.body
                    code = -struct.unpack_from("=i", body)[0] if kind == _NLMSG_ERROR else 0
                    if code and sequence == 0:
                        # The batch as such: no privilege, no nf_tables in this kernel. Answers may be left over.
                        self._close()
                        return {0: code}
                    if code:
                        errors[sequence - 1] = code
                    if kind == _NLMSG_ERROR and sequence == last:
                        return errors

    @contextmanager
    def _request(self, operation: str, subject: str) -> Iterator[socket.socket]:
        """Inside the block the socket is this thread's."""
        with self._turn:
            try:
                if self._socket is None:
                    self._socket = _opened()
                yield self._socket
            except OSError as exc:
                # Answers may be left over that the next request would take for its own.
                self._close()
                raise KernelError(operation, subject, exc.errno or 0) from exc

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def concat(*fields: bytes) -> bytes:
    """Return the key, or the data, that is the concatenation of `fields`: each fills whole words of four bytes."""
    return b"".join(padded(value) for value in fields)


def ifname(name: str) -> bytes:
    """Return an interface's name as a key: 16 bytes. Source: linux/if.h IFNAMSIZ."""
    return name.encode("ascii").ljust(16, b"\0")


def _opened() -> socket.socket:
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
    try:
        netlink.bind((0, 0))
        netlink.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _ANSWER_BYTES)
        # The answer is there when the request has been sent; only a bug of ours could wait for it.
        netlink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 10, 0))
        # Without this every refusal carries the whole message that was refused.
        netlink.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
    except BaseException:
        netlink.close()
        raise
    return netlink


def _dump(netlink: socket.socket, subject: str) -> list[Element] | None:
    """Return what a dump answers; None if the set changed meanwhile."""
    found: list[Element] = []
    interrupted = False
    while True:
        for answer in _received(netlink):
            kind, body = answer.kind, answer.body
            interrupted |= bool(answer.flags & _NLM_F_DUMP_INTR)
            if kind == _NLMSG_ERROR or (kind == _NLMSG_DONE and struct.unpack_from("=i", body)[0] < 0):
                code = -struct.unpack_from("=i", body)[0]
                if code == errno.ENOENT:
                    return []
                raise KernelError("read", subject, code)
            if kind == _NLMSG_DONE:
                return None if interrupted else found
            listed = attributes(body[4:]).get(_LIST_ELEMENTS, b"")
            found += [_parsed(element) for _, element in each_attribute(listed)]


def _received(netlink: socket.socket) -> Iterator[Message]:
    """Yield the messages of one datagram."""
    return messages(netlink.recv(256 * 1024))


def _message(kind: int, flags: int, sequence: int, family: int, content: bytes, resource: int = 0) -> bytes:
    return message(kind, flags | _NLM_F_REQUEST, sequence, struct.pack(">BBH", family, 0, resource) + content)


def _element(element: Element) -> bytes:
    value = attribute(_KEY | NESTED, attribute(_DATA_VALUE, element.key))
    if element.key_end is not None:
        value += attribute(_KEY_END | NESTED, attribute(_DATA_VALUE, element.key_end))
    if isinstance(element.data, Verdict):
        verdict = attribute(_VERDICT_CODE, struct.pack(">i", _CODE[element.data.code]))
        if element.data.chain:
            verdict += string(_VERDICT_CHAIN, element.data.chain)
        value += attribute(_DATA | NESTED, attribute(_DATA_VERDICT | NESTED, verdict))
    elif element.data is not None:
        value += attribute(_DATA | NESTED, attribute(_DATA_VALUE, element.data))
    if element.comment:
        text = element.comment.encode("ascii") + b"\0"
        value += attribute(_USERDATA, bytes((_COMMENT, len(text))) + text)
    return attribute(1 | NESTED, value)


def _parsed(element: bytes) -> Element:
    parts = attributes(element)
    key_end = attributes(parts[_KEY_END])[_DATA_VALUE] if _KEY_END in parts else None
    data = _parsed_data(attributes(parts.get(_DATA, b"")))
    return Element(attributes(parts[_KEY])[_DATA_VALUE], key_end, data, _parsed_comment(parts.get(_USERDATA, b"")))


def _parsed_comment(user_data: bytes) -> str:
    while len(user_data) > 2:
        kind, length = user_data[:2]
        if kind == _COMMENT:
            return user_data[2 : 2 + length].rstrip(b"\0").decode("ascii", "replace")
        user_data = user_data[2 + length :]
    return ""


def _parsed_data(data: dict[int, bytes]) -> bytes | Verdict | None:
    if _DATA_VERDICT not in data:
        return data.get(_DATA_VALUE)
    verdict = attributes(data[_DATA_VERDICT])
    code = struct.unpack(">i", verdict[_VERDICT_CODE])[0]
    return Verdict(_VERDICT[code], verdict.get(_VERDICT_CHAIN, b"").rstrip(b"\0").decode("ascii"))


def _list(table: str, name: str) -> bytes:
    return string(_LIST_TABLE, table) + string(_LIST_SET, name)
