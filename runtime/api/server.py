"""The Flask app: versions, errors, and what is not there."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import time
from collections.abc import Callable, Iterable
from typing import Any

from flask import Blueprint, Flask, Response, request
from flask.json.provider import DefaultJSONProvider
from werkzeug.exceptions import HTTPException

from runtime.errors import ApiError, BadParameter

log = logging.getLogger(__name__)

VERSION = "0.1.0"
API, OLDEST_API = "1.51", "1.41"
_DRAIN_S = 10.0
_PREFIX = re.compile(r"/v(\d+)\.(\d+)(/.*)")


class _Json(DefaultJSONProvider):
    """Keys stay in the order in which dockerd has them."""

    sort_keys = False


def create_app(blueprints: Iterable[Blueprint]) -> Flask:
    """Return a WSGI app that answers what the blueprints know, and 501 for the rest."""
    app = Flask("pyrun", static_folder=None)
    app.url_map.strict_slashes = False
    app.json = _Json(app)
    for blueprint in blueprints:
        app.register_blueprint(blueprint)
    app.register_error_handler(ApiError, _refused)
    app.register_error_handler(HTTPException, _refuse)
    app.register_error_handler(OSError, _refused_by_kernel)
    app.register_error_handler(Exception, _bug)
    app.after_request(_introduce)
    app.wsgi_app = _without_version(app.wsgi_app)  # type: ignore[method-assign]
    return app


def error(status: int, message: str) -> Response:
    """Return an error as the docker CLI reads it."""
    return answer({"message": message}, status)


def answer(content: Any, status: int = 200) -> Response:
    """Return JSON."""
    return Response(json.dumps(content) + "\n", status=status, content_type="application/json")


def body() -> dict[str, Any]:
    """Return the JSON object of the request; an empty body is an empty one.

    Raises: BadParameter.
    """
    text = request.get_data(cache=False)
    try:
        content = json.loads(text) if text.strip() else {}
    except ValueError as exc:
        raise BadParameter(f"invalid JSON: {exc}") from exc
    if not isinstance(content, dict):
        raise BadParameter("invalid JSON: the request's body is no object")
    return content


def flag(name: str) -> bool:
    """Return whether the query has the parameter, and not as 0 or false."""
    return request.args.get(name, "").lower() not in ("", "0", "false", "no")


def _introduce(response: Response) -> Response:
    response.headers |= {"Api-Version": API, "Ostype": "linux", "Docker-Experimental": "false"}
    response.headers["Server"] = f"pyrun/{VERSION} (linux)"
    return response


def _refuse(exc: HTTPException) -> Response:
    if exc.code in (404, 405):
        return error(
            501, f"cannot answer {request.method} {request.path}: pyrun does not have this part of the Engine API"
        )
    return error(exc.code or 400, f"cannot answer {request.method} {request.path}: {exc.name}")


def _refused(exc: ApiError) -> Response:
    _drain()
    return error(exc.status, str(exc))


def _drain() -> None:
    """The client has sent its body, so that it reads the answer: one whose connection is closed reads nothing."""
    deadline = time.monotonic() + _DRAIN_S
    with contextlib.suppress(OSError, HTTPException):
        while time.monotonic() < deadline and request.stream.read(1 << 20):
            pass


def _refused_by_kernel(exc: OSError) -> Response:
    _drain()
    log.error("%s %s", request.method, request.path, exc_info=exc)
    where = f" of {exc.filename}" if exc.filename else ""
    return error(
        500, f"cannot do {request.method} {request.path}: {exc.strerror or exc}{where}; is a disk full or read-only?"
    )


def _bug(exc: Exception) -> Response:
    log.error("%s %s", request.method, request.path, exc_info=exc)
    return error(500, f"internal error in {request.method} {request.path}; see the log of pyrun")


def _without_version(application: Callable[..., Any]) -> Callable[..., Any]:
    """Return the application with paths that begin with a version answered like those without."""

    def answered(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        if match := _PREFIX.fullmatch(environ["PATH_INFO"]):
            asked = (int(match[1]), int(match[2]))
            low, high = (tuple(map(int, version.split("."))) for version in (OLDEST_API, API))
            if not low <= asked <= high:
                text = f"client version {match[1]}.{match[2]} is not supported: pyrun answers {OLDEST_API} to {API}"
                return error(400, text)(environ, start_response)
            environ["PATH_INFO"] = match[3]
        return application(environ, start_response)

    return answered
