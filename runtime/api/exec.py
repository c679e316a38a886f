"""/exec and /containers/…/exec."""

from __future__ import annotations

from concurrent.futures import Future
from socket import socket

from flask import Blueprint, Response

from runtime.api import attaching
from runtime.api.containers import size
from runtime.api.server import answer, body
from runtime.api.streams import MULTIPLEXED, RAW, frame, upgraded
from runtime.containers.sessions import Sessions
from runtime.errors import ApiError


def blueprint(sessions: Sessions) -> Blueprint:
    """Return the routes of exec."""
    routes = Blueprint("exec", __name__)

    @routes.post("/containers/<wanted>/exec")
    def create(wanted: str) -> Response:
        config = body()
        attaching.parse_keys(config.get("DetachKeys") or "")
        return answer({"Id": sessions.create(wanted, config).id}, 201)

    @routes.post("/exec/<key>/start")
    def start(key: str) -> Response:
        asked = body()
        session = sessions.claim(key)
        if asked.get("Detach"):
            sessions.start(session, attached=False)
            return Response(status=200)
        config, terminal = session.config, bool(session.config.get("Tty"))
        keys = attaching.parse_keys(config.get("DetachKeys") or "")
        wanted = attaching.Wanted(
            bool(config.get("AttachStdin")), bool(config.get("AttachStdout")), bool(config.get("AttachStderr")),
            terminal, keys,
        )  # fmt: skip

        def talk(client: socket) -> None:
            # Only now: docker-py loses what comes together with the head.
            attachment: Future[socket] = Future()
            try:
                streams = sessions.start(session, attached=True, size=asked.get("ConsoleSize"))
            except ApiError as exc:
                # The CLI reads the reason from the stream, and the exit code from `inspect`.
                text = f"OCI runtime exec failed: {exc}\r\n".encode()
                client.sendall(text if terminal else frame(1, text))
                return
            assert streams is not None
            attachment.set_result(streams)
            attaching.converse(client, attachment, wanted)
            # The CLI asks for the exit code as soon as the stream ends.
            sessions.finish(key)

        return upgraded(talk, RAW if terminal else MULTIPLEXED)

    @routes.post("/exec/<key>/resize")
    def resize(key: str) -> Response:
        session = sessions.running(key)
        sessions.shim(session).resize(*size())
        return Response(status=200)

    @routes.get("/exec/<key>/json")
    def inspect(key: str) -> Response:
        session = sessions.get(key)
        command = [str(word) for word in session.config["Cmd"]]
        config = {
            "tty": bool(session.config.get("Tty")), "entrypoint": command[0], "arguments": command[1:],
            "privileged": bool(session.config.get("Privileged")), "user": session.config.get("User") or "",
        }  # fmt: skip
        return answer({
            "ID": session.id, "Running": session.running, "ExitCode": session.exit_code, "ProcessConfig": config,
            "ContainerID": session.container, "Pid": session.pid, "OpenStdin": bool(session.config.get("AttachStdin")),
            "OpenStdout": bool(session.config.get("AttachStdout")),
            "OpenStderr": bool(session.config.get("AttachStderr")), "CanRemove": False,
            "DetachKeys": session.config.get("DetachKeys") or "",
        })  # fmt: skip

    return routes
