"""The page over HTTP, for whoever has its key. Nothing can be changed by it; every request is a GET.

What a browser may be talked into by other pages is kept out: a page whose name is made to lead here (DNS rebinding) by
the Host header, requests of other pages by Sec-Fetch-Site and by the cookie's SameSite, scripts in names by text nodes
and the Content-Security-Policy. Source: fetch.spec.whatwg.org, w3.org/TR/fetch-metadata, w3.org/TR/CSP3.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, Response, abort, redirect, request
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from pluginkit import wire
from pluginkit.errors import KernelError

_PAGE = Path(__file__).with_name("page")
_FILES = {
    "index.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    **dict.fromkeys(("page.js", "tables.js", "columns.js", "words.js"), "text/javascript; charset=utf-8"),
}
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
        "trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_WITHOUT_KEY = "Open the address that pynet console printed when it was started: the key is in it.\n"


def create_console(now: Callable[[], Any], key: str, names: Collection[str]) -> Flask:
    """Return a WSGI app that shows what `now` returns to whoever has the key.

    names: of this host, as browsers may call it.
    """
    app = Flask("console", static_folder=None)

    # Cookies are for all ports of a name, and there may be several consoles.
    cookie = f"pynet-console-{secrets.token_hex(4)}"

    def guard() -> Response | None:
        if _host_name(request.headers.get("Host", "")) not in names:
            return _refused(421, "This is not a name of the console's; pynet console --name NAME allows one.\n")
        if request.method not in ("GET", "HEAD"):
            return _refused(405, "There is nothing to change here.\n")
        came_from = request.headers.get("Sec-Fetch-Site", "none")
        # By a link from elsewhere one may come to the page, as by a bookmark; nothing else is for other pages.
        is_opened = request.headers.get("Sec-Fetch-Mode") == "navigate" and request.path == "/"
        if came_from not in ("same-origin", "none") and not is_opened:
            return _refused(403, "Other pages may not ask this.\n")
        if request.path == "/" and "key" in request.args:
            return None
        if not _is_key(request.cookies.get(cookie, ""), key):
            return _refused(403, _WITHOUT_KEY)
        return None

    def page() -> Response:
        if "key" not in request.args:
            return _file("index.html")
        if not _is_key(request.args["key"], key):
            return _refused(403, _WITHOUT_KEY)
        # The key does not stay in the address, where it would be seen by whoever looks on.
        answer = redirect("/", 303)
        answer.set_cookie(cookie, key, httponly=True, samesite="Strict")
        return Response(answer.get_data(), 303, answer.headers)

    def file(name: str) -> Response:
        return _file(name) if name in _FILES else abort(404)

    def current() -> Response:
        return Response(wire.encode(now()), mimetype="application/json")

    app.before_request(guard)
    app.after_request(_with_headers)
    app.add_url_rule("/", "page", page)
    app.add_url_rule("/<name>", "file", file)
    app.add_url_rule("/api/state", "state", current)
    return app


def listen(app: Flask, address: str, port: int) -> BaseWSGIServer:
    """Return a server that listens, and answers once it is told to serve. Raises: KernelError: it cannot."""

    class Silent(WSGIRequestHandler):
        # Who says nothing for so long is hung up on.
        timeout = 60

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Nothing is said: a page asks every two seconds."""

    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen()
        return make_server(address, port, app, threaded=True, request_handler=Silent, fd=listener.fileno())
    except OSError as exc:
        hint = "choose another with --port or --listen"
        raise KernelError("listen on", f"{address} port {port}", exc.errno or 0, hint) from exc
    finally:
        # The server has a copy of the descriptor.
        listener.close()


def _host_name(header: str) -> str:
    try:
        return (urlsplit(f"//{header}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_key(given: str, key: str) -> bool:
    return secrets.compare_digest(given.encode(), key.encode())


def _file(name: str) -> Response:
    return Response((_PAGE / name).read_bytes(), content_type=_FILES[name])


def _refused(status: int, why: str) -> Response:
    return Response(why, status, mimetype="text/plain")


def _with_headers(answer: Response) -> Response:
    answer.headers.update(HEADERS)
    return answer
