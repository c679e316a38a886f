"""The plugin protocol over HTTP: a Flask app made from one table of methods.

Source: docs/protocol.md; moby pkg/plugins. Success is 200 with a JSON object; every error is 4xx or 500 with the text
in `Err` (network, volume) and `Error` (IPAM): Podman takes any 200 for success. 404 is only for unknown methods.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from pluginkit import admin, caller, errors, wire
from pluginkit.log import request_id
from pluginkit.metrics import Metrics

log = logging.getLogger(__name__)

CONTENT_TYPE = "application/vnd.docker.plugins.v1.2+json"
# A published range of 10 000 ports is about 1 MB on the wire.
MAX_BODY_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Method:
    """One method of the protocol: `name` as in the URL, the type of its request (None: the body is empty), its verb.

    hang_up: an empty body, or a bug of ours, is answered by closing the connection: the engine acts on what any other
    answer says. lost: called when the body is empty, because the engine gives up a request that it repeats without.
    """

    name: str
    request: type[Any] | None
    verb: Callable[..., Any]
    hang_up: bool = False
    lost: Callable[[], None] | None = None


def create_app(name: str, implements: Sequence[str], methods: Sequence[Method], metrics: Metrics) -> Flask:
    """Return a WSGI app that answers Plugin.Activate and each of `methods`, and GET /metrics."""
    app = Flask(name, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    activate = Method("Plugin.Activate", None, lambda: {"Implements": list(implements)})
    for method in (activate, *methods):
        view = _view(method, metrics)
        app.add_url_rule(f"/{method.name}", method.name, view, methods=["POST"], provide_automatic_options=False)
    app.add_url_rule("/metrics", "metrics", lambda: Response(metrics.text(), mimetype="text/plain"), methods=["GET"])
    app.register_error_handler(HTTPException, _refuse)
    return app


def create_admin_app(name: str, methods: Sequence[Method], metrics: Metrics) -> Flask:
    """Return a WSGI app that answers each of `methods`, for `admin.listen`."""
    app = Flask(f"{name} admin", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    for method in methods:
        rule = f"/{admin.VERSION}/{method.name}"
        app.add_url_rule(rule, method.name, _view(method, metrics), methods=["POST"], provide_automatic_options=False)
    app.register_error_handler(HTTPException, _refuse)
    return app


def _view(method: Method, metrics: Metrics) -> Callable[[], Response]:
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
            return _answer(200, {} if answer is None else answer)
        except RequestEntityTooLarge:
            outcome = "error"
            metrics.failed(method.name, "BadRequest")
            return _error(400, f"cannot read a request above {MAX_BODY_BYTES} bytes")
        except HTTPException as exc:
            # The caller died inside its request: nobody reads the answer, and it is no bug.
            outcome = "error"
            metrics.failed(method.name, "HungUp")
            log.warning("%s: %s", method.name, exc.description)
            return _refuse(exc)
        except Exception as exc:
            metrics.failed(method.name, type(exc).__name__)
            if errors.is_expected(exc):
                outcome = "error"
                log.warning("%s: %s", method.name, errors.describe(exc))
                return _error(errors.http_status(exc), errors.describe(exc))
            outcome = "bug"
            log.exception("%s", method.name)
            if method.hang_up:
                _hang_up()
            return _error(500, f"internal error in {method.name}; see the plugin's log, request {request_id.get()}")
        finally:
            seconds = time.perf_counter() - started
            metrics.answered(method.name, outcome, seconds)
            log.debug("%s %s in %.1f ms", method.name, outcome, seconds * 1000)
            request_id.reset(token)

    return view


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
