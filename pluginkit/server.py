"""The plugin protocol over HTTP: a Flask app made from one table of methods.

Source: docs/protocol.md; moby pkg/plugins. Success is 200 with a JSON object; every error is 4xx or 500 with the text
in `Err` (network, volume) and `Error` (IPAM): Podman takes any 200 for success. 404 is only for unknown methods.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import select
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import MethodType
from typing import Any, Protocol

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from pluginkit import admin, caller, errors, wire
from pluginkit.log import request_id
from pluginkit.metrics import Metrics

log = logging.getLogger(__name__)

CONTENT_TYPE = "application/vnd.docker.plugins.v1.2+json"
LINES = "application/x-ndjson"
# Who does not read for so long is taken for gone.
_SLOW_S = 10.0
# A published range of 10 000 ports is about 1 MB on the wire.
MAX_BODY_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Method:
    """One method of the protocol: `name` as in the URL, the type of its request (None: the body is empty), its verb.

    hang_up: an empty body, or a bug of ours, is answered by closing the connection: the engine acts on what any other
    answer says. lost: called when the body is empty, because the engine gives up a request that it repeats without.
    lines: what the answer, which are `Lines`, has in each line; None: the answer is one object.
    """

    name: str
    request: type[Any] | None
    verb: Callable[..., Any]
    hang_up: bool = False
    lost: Callable[[], None] | None = None
    lines: type[Any] | None = None


class Lines(Protocol):
    """An answer that comes bit by bit. `fileno` is readable while there is something."""

    def fileno(self) -> int:
        """Return the descriptor."""

    def take(self) -> Sequence[Any] | None:
        """Return what has come since the last time; None: no more will."""

    def close(self) -> None:
        """Nothing more is wanted."""


# Told of a request that was refused or has failed: its method, and why.
Failed = Callable[[str, str], None]


def _untold(_method: str, _why: str) -> None:
    """Nobody is told."""


def bound(methods: Sequence[Method], driver: object) -> tuple[Method, ...]:
    """Return the methods, whose verbs are functions of a class, as `driver` of that class answers them."""
    return tuple(replace(method, verb=MethodType(method.verb, driver)) for method in methods)


def create_app(
    name: str, implements: Sequence[str], methods: Sequence[Method], metrics: Metrics, failed: Failed = _untold
) -> Flask:
    """Return a WSGI app that answers Plugin.Activate and each of `methods`, and GET /metrics."""
    app = Flask(name, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    activate = Method("Plugin.Activate", None, lambda: {"Implements": list(implements)})
    for method in (activate, *methods):
        view = _view(method, metrics, failed)
        app.add_url_rule(f"/{method.name}", method.name, view, methods=["POST"], provide_automatic_options=False)
    app.add_url_rule("/metrics", "metrics", lambda: Response(metrics.text(), mimetype="text/plain"), methods=["GET"])
    app.register_error_handler(HTTPException, _refuse)
    return app


def create_admin_app(name: str, methods: Sequence[Method], metrics: Metrics, failed: Failed = _untold) -> Flask:
    """Return a WSGI app that answers each of `methods`, and GET openapi.json, for `admin.listen`."""
    app = Flask(f"{name} admin", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    for method in methods:
        rule, view = f"/{admin.VERSION}/{method.name}", _view(method, metrics, failed)
        app.add_url_rule(rule, method.name, view, methods=["POST"], provide_automatic_options=False)

    def description() -> Response:
        # Made when somebody asks: it takes longer than starting should.
        from pluginkit.openapi.description import describe

        return Response(wire.encode(describe(name, methods)), mimetype="application/json")

    app.add_url_rule(f"/{admin.VERSION}/openapi.json", "openapi", description, methods=["GET"])
    app.register_error_handler(HTTPException, _refuse)
    return app


def _view(method: Method, metrics: Metrics, failed: Failed) -> Callable[[], Response]:
    def view() -> Response:
        token = request_id.set(secrets.token_hex(4))
        started = time.perf_counter()
        outcome = "ok"
        try:
            body = request.get_data(cache=False)
            if method.hang_up and not body:
                _hang_up()
            if method.lost and not body:
                method.lost()
            caller.remember(_connection())
            answer = method.verb() if method.request is None else method.verb(wire.decode(body, method.request))
            return _told_by_line(answer) if method.lines else _answer(200, {} if answer is None else answer)
        except RequestEntityTooLarge:
            outcome = "error"
            metrics.failed(method.name, "BadRequest")
            failed(method.name, "the request is too large")
            return _error(400, f"cannot read a request above {MAX_BODY_BYTES} bytes")
        except HTTPException as exc:
            # The caller died inside its request: nobody reads the answer, and it is no bug.
            outcome = "error"
            metrics.failed(method.name, "HungUp")
            log.warning("%s: %s", method.name, exc.description)
            failed(method.name, "the caller hung up")
            return _refuse(exc)
        except Exception as exc:
            metrics.failed(method.name, type(exc).__name__)
            if errors.is_expected(exc):
                outcome = "error"
                log.warning("%s: %s", method.name, errors.describe(exc))
                failed(method.name, errors.describe(exc))
                return _error(errors.http_status(exc), errors.describe(exc))
            outcome = "bug"
            log.exception("%s", method.name)
            failed(method.name, f"internal error; see the log, request {request_id.get()}")
            if method.hang_up:
                _hang_up()
            return _error(500, f"internal error in {method.name}; see the plugin's log, request {request_id.get()}")
        finally:
            seconds = time.perf_counter() - started
            metrics.answered(method.name, outcome, seconds)
            log.debug("%s %s in %.1f ms", method.name, outcome, seconds * 1000)
            request_id.reset(token)

    return view


def _told_by_line(lines: Lines) -> Response:
    """Return an answer that goes on until there are no more lines, or nobody who reads them."""
    connection: socket.socket | None = request.environ.get("werkzeug.socket")

    def told() -> Iterator[bytes]:
        ready = select.poll()
        ready.register(lines, select.POLLIN)
        if connection is not None:
            # Who asks says nothing more: what comes is the end.
            ready.register(connection, select.POLLIN | select.POLLRDHUP)
            connection.settimeout(_SLOW_S)
        # Here, for werkzeug does not close the answer to a caller that has hung up without reading all.
        with contextlib.closing(lines):
            # The head of the answer is sent with the first part of it, and should not wait for something to happen.
            yield b""
            while (taken := lines.take()) is not None:
                for line in taken:
                    yield wire.encode(line) + b"\n"
                if any(descriptor != lines.fileno() for descriptor, _ in ready.poll()):
                    return

    return Response(told(), mimetype=LINES)


def _connection() -> socket.socket | None:
    connection: socket.socket | None = request.environ.get("gunicorn.socket")
    return connection


def _hang_up() -> None:
    """The caller gets no answer, which it takes for a plugin that is starting, whatever is answered now."""
    connection = _connection()
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


def _refuse(exc: HTTPException) -> Response:
    if exc.code == 404:
        return _error(404, f"{request.path.lstrip('/')} is not a method of this plugin")
    return _error(exc.code or 400, f"cannot answer {request.method} {request.path}: {exc.name}")


def _answer(status: int, content: Any) -> Response:
    return Response(wire.encode(content), status=status, content_type=CONTENT_TYPE)


def _error(status: int, text: str) -> Response:
    return _answer(status, {"Err": text, "Error": text})
