"""etcd, as far as it is needed here: read, transact, watch, lease. Every call ends within a bound.

etcd's own JSON gateway needs nothing but HTTP (docs/decisions/0013). Source: etcd.io/docs/v3.4, api_grpc_gateway, rpc.
"""

from __future__ import annotations

import base64
import http.client
import json
import logging
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from pluginkit.errors import Unavailable

log = logging.getLogger(__name__)

# One member may be cut off, or be without a leader: then there is time for another one.
_ATTEMPT_S, _TOTAL_S = 2.0, 5.0
# When a leader dies, there is a new one after one to two seconds. Until then the others say at once that there is none.
_ELECTION_S, _ELECTION_PAUSE_S, _NO_LEADER = 3.0, 0.1, "no leader"
# A range is read in parts, so that no answer is larger than etcd and we can bear.
_PAGE = 2000


class Compacted(Exception):
    """The history that a watch asked for is no more: read everything again."""


@dataclass(frozen=True)
class Server:
    """One member of the cluster."""

    host: str
    port: int


@dataclass(frozen=True)
class Access:
    """How to speak to the members. tls: None: in the clear. user "": without a password."""

    servers: tuple[Server, ...]
    tls: ssl.SSLContext | None = None
    user: str = ""
    password: str = ""


@dataclass(frozen=True)
class Entry:
    """A key with its value. revision: of its last change; 0 with the value b"": it does not exist."""

    key: str
    value: bytes
    revision: int


@dataclass(frozen=True)
class Is:
    """A condition: the key was last changed at that revision; 0: it does not exist. every: no key begins with it."""

    key: str
    revision: int
    every: bool = False


@dataclass(frozen=True)
class Put:
    """A change: the key has that value, until `lease` ends unless that is 0."""

    key: str
    value: bytes
    lease: int = 0


@dataclass(frozen=True)
class Delete:
    """A change: the key does not exist. every: no key begins with it."""

    key: str
    every: bool = False


@dataclass(frozen=True)
class Listing:
    """What was there at `revision`."""

    revision: int
    entries: tuple[Entry, ...]


class Etcd:
    """A cluster of etcd. Threads may share it."""

    def __init__(self, access: Access) -> None:
        self._access = access
        # Where the last request was answered; tried first by the next one.
        self._preferred = 0
        self._token = ""
        self._ahead_s = 0

    def list(self, prefix: str) -> Listing:
        """Return all keys that begin with `prefix`, as they were at one moment.

        Raises: Unavailable: no member answered that has a leader.
        """
        entries: list[Entry] = []
        start, revision = prefix, 0
        while True:
            request = {"key": _packed(start), "range_end": _packed(_end(prefix)), "limit": str(_PAGE)}
            answer = self._ask("kv/range", {**request, **({"revision": str(revision)} if revision else {})})
            revision = revision or int(answer["header"]["revision"])
            entries += map(_entry, answer.get("kvs", ()))
            if not answer.get("more"):
                return Listing(revision, tuple(entries))
            start = entries[-1].key + "\0"

    def get(self, key: str) -> Entry:
        """Return one key. Raises: Unavailable."""
        found = self._ask("kv/range", {"key": _packed(key)}).get("kvs", ())
        return _entry(found[0]) if found else Entry(key, b"", 0)

    def transact(self, conditions: Sequence[Is], changes: Sequence[Put | Delete]) -> int:
        """All changes are made if all conditions hold, else none; return the revision, 0 if none was.

        Raises: Unavailable: nobody answered. The changes may have been made all the same.
        """
        compare = [
            {
                "key": _packed(one.key),
                "target": "MOD" if one.revision else "CREATE",
                "mod_revision" if one.revision else "create_revision": str(one.revision),
                **({"range_end": _packed(_end(one.key))} if one.every else {}),
            }
            for one in conditions
        ]
        answer = self._ask("kv/txn", {"compare": compare, "success": list(map(_operation, changes))})
        return int(answer["header"]["revision"]) if answer.get("succeeded") else 0

    def grant(self, ttl_s: int) -> int:
        """Return a new lease. Raises: Unavailable."""
        return int(self._ask("lease/grant", {"TTL": str(ttl_s)})["ID"])

    def keep(self, lease: int) -> bool:
        """The lease begins anew; return whether it was still there. Raises: Unavailable."""
        answer = self._ask("lease/keepalive", {"ID": str(lease)})
        return int(answer.get("result", {}).get("TTL", 0)) > 0

    def watch(self, prefix: str, after: int) -> Watch:
        """Return the changes below `prefix` since that revision. Raises: Unavailable."""
        request = {"key": _packed(prefix), "range_end": _packed(_end(prefix)), "start_revision": str(after + 1)}
        return Watch(*self._open("watch", {"create_request": request}, patient=True), self._preferred)

    def ahead_s(self) -> int:
        """Return how far the clock of the member that answered last is before this host's, to about a second."""
        return self._ahead_s

    def is_nearest(self, watch: Watch) -> bool:
        """Tell whether the member of a watch is the one that answers; it could be cut off without a word."""
        return watch.member == self._preferred

    def _ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        connection, answer = self._open(path, body, patient=False)
        try:
            content: dict[str, Any] = json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError) as exc:
            raise Unavailable(f"cannot read the answer of etcd to {path}: {exc}") from exc
        finally:
            connection.close()
        return content

    def _open(self, path: str, body: dict[str, Any], *, patient: bool) -> tuple[_Connection, http.client.HTTPResponse]:
        """Return the beginning of an answer, from the first member that gives one.

        patient: the rest of it may take for ever.
        """
        began = time.monotonic()
        while True:
            found, reasons = self._tried(path, body, began + _TOTAL_S, patient=patient)
            if found is not None:
                return found
            if time.monotonic() - began > _ELECTION_S or not any(_NO_LEADER in reason for reason in reasons):
                raise Unavailable(f"cannot ask etcd: {'; '.join(reasons)}; is it running, and has it a leader?")
            time.sleep(_ELECTION_PAUSE_S)

    def _tried(
        self, path: str, body: dict[str, Any], deadline: float, *, patient: bool
    ) -> tuple[tuple[_Connection, http.client.HTTPResponse] | None, tuple[str, ...]]:
        """Return the beginning of an answer if a member gives one, and why others did not."""
        servers = self._access.servers
        reasons: tuple[str, ...] = ()
        for place in range(self._preferred, self._preferred + len(servers)):
            server = servers[place % len(servers)]
            left = min(_ATTEMPT_S, deadline - time.monotonic())
            if left <= 0:
                break
            connection = self._connection(server, left)
            try:
                answer = self._answered(connection, path, body)
                if answer.status == http.client.OK:
                    if patient and connection.sock is not None:
                        connection.sock.settimeout(None)
                    self._preferred = place % len(servers)
                    self._ahead_s = _ahead_s(answer.getheader("Date"))
                    return (connection, answer), reasons
                reasons += (f"{server.host}: {_reason(answer.read())}",)
            except (OSError, http.client.HTTPException) as exc:
                reasons += (f"{server.host}: {str(exc) or type(exc).__name__}",)
            connection.close()
        return None, reasons

    def _answered(self, connection: _Connection, path: str, body: dict[str, Any]) -> http.client.HTTPResponse:
        if self._access.user and not self._token:
            self._token = self._authenticated(connection)
        answer = self._post(connection, path, body)
        if answer.status == http.client.UNAUTHORIZED and self._access.user:
            # Tokens end, and every member that starts again forgets them.
            answer.read()
            self._token = self._authenticated(connection)
            answer = self._post(connection, path, body)
        return answer

    def _authenticated(self, connection: _Connection) -> str:
        """Return a token for further requests."""
        body = {"name": self._access.user, "password": self._access.password}
        connection.request("POST", "/v3/auth/authenticate", json.dumps(body))
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != http.client.OK:
            raise http.client.HTTPException(_reason(content))
        return str(json.loads(content)["token"])

    def _post(self, connection: _Connection, path: str, body: dict[str, Any]) -> http.client.HTTPResponse:
        # A member without a leader shall say so instead of answering from what it has.
        headers = {"Grpc-Metadata-Hasleader": "true"}
        if self._token:
            headers["Authorization"] = self._token
        connection.request("POST", f"/v3/{path}", json.dumps(body), headers)
        return connection.getresponse()

    def _connection(self, server: Server, timeout_s: float) -> _Connection:
        if self._access.tls is not None:
            return http.client.HTTPSConnection(server.host, server.port, timeout=timeout_s, context=self._access.tls)
        return http.client.HTTPConnection(server.host, server.port, timeout=timeout_s)


_Connection = http.client.HTTPConnection


class Watch:
    """Changes as they come. One thread iterates, any other may cancel."""

    def __init__(self, connection: _Connection, answer: http.client.HTTPResponse, member: int) -> None:
        self._connection, self._answer, self.member = connection, answer, member

    def __iter__(self) -> Iterator[Listing]:
        """Yield the changes of each revision, a deleted key with revision 0; end when cancelled or cut off.

        Raises: Compacted: the changes are no longer known.
        """
        try:
            while line := self._answer.readline():
                result = json.loads(line).get("result", {})
                if int(result.get("compact_revision", 0)):
                    raise Compacted
                if result.get("canceled") or "error" in json.loads(line):
                    return
                if events := result.get("events"):
                    yield Listing(int(result["header"]["revision"]), tuple(map(_event, events)))
        except (OSError, http.client.HTTPException, ValueError) as exc:
            log.debug("a watch ended: %s", exc)
        finally:
            self._answer.close()
            self._connection.close()

    def cancel(self) -> None:
        """Whoever iterates comes to the end."""
        if self._connection.sock is not None:
            try:
                self._connection.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                # It was cut off already.
                return


def _ahead_s(date: str | None) -> int:
    """Return how far the clock is before ours by which that was written; what cannot be read says nothing."""
    try:
        return round(parsedate_to_datetime(date or "").timestamp() - time.time())
    except ValueError:
        return 0


def _packed(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def _end(prefix: str) -> bytes:
    """Return the first key after all that begin with `prefix`, which ends in an ASCII character."""
    packed = prefix.encode()
    return packed[:-1] + bytes([packed[-1] + 1])


def _entry(content: dict[str, Any]) -> Entry:
    key, value = (base64.b64decode(content.get(name, "")) for name in ("key", "value"))
    return Entry(key.decode("utf-8", "replace"), value, int(content["mod_revision"]))


def _event(content: dict[str, Any]) -> Entry:
    entry = _entry(content["kv"])
    return Entry(entry.key, b"", 0) if content.get("type") == "DELETE" else entry


def _operation(change: Put | Delete) -> dict[str, Any]:
    if isinstance(change, Delete):
        every = {"range_end": _packed(_end(change.key))} if change.every else {}
        return {"request_delete_range": {"key": _packed(change.key), **every}}
    lease = {"lease": str(change.lease)} if change.lease else {}
    return {"request_put": {"key": _packed(change.key), "value": _packed(change.value), **lease}}


def _reason(content: bytes) -> str:
    try:
        said: dict[str, Any] = json.loads(content)
    except ValueError:
        return content.decode("utf-8", "replace")[:200]
    return str(said.get("error", said))
