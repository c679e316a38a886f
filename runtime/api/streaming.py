"""/containers/…/attach, logs, top, stats: what a container says, and what it does."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, request

from runtime.api import attaching
from runtime.api.server import answer, flag
from runtime.api.streams import MULTIPLEXED, RAW, chunked, frame, json_lines, upgraded
from runtime.containers import logs
from runtime.containers.lifecycle import Containers
from runtime.containers.record import Container
from runtime.errors import BadParameter, Failed, Unsupported


def blueprint(containers: Containers) -> Blueprint:
    """Return the routes."""
    routes = Blueprint("streaming", __name__)

    @routes.post("/containers/<wanted>/attach")
    def attach(wanted: str) -> Response:
        if flag("logs"):
            raise Unsupported("cannot attach with the log: pyrun keeps them apart; ask for logs first")
        keys = attaching.parse_keys(request.args.get("detachKeys", ""))
        container, attachment = containers.attach(wanted)
        terminal = bool(container.config.get("Tty"))
        asked = attaching.Wanted(
            flag("stdin") and bool(container.config.get("OpenStdin")), flag("stdout"), flag("stderr"), terminal, keys
        )
        kind = RAW if terminal else MULTIPLEXED
        return upgraded(lambda client: attaching.converse(client, attachment, asked), kind)

    @routes.get("/containers/<wanted>/logs")
    def show_logs(wanted: str) -> Response:
        container = containers.index.get(wanted)
        streams = frozenset(number for name, number in (("stdout", logs.STDOUT), ("stderr", logs.STDERR)) if flag(name))
        if not streams:
            raise BadParameter("Bad parameters: you must choose at least one stream")
        tail = request.args.get("tail", "all")
        asked = logs.Wanted(
            streams, parse_time(request.args.get("since")) or 0.0,
            parse_time(request.args.get("until")) or float("inf"), int(tail) if tail.isdecimal() else None,
        )  # fmt: skip
        terminal = bool(container.config.get("Tty"))
        pieces = _log_pieces(containers, container, asked, follow=flag("follow"), timestamps=flag("timestamps"))
        return chunked(pieces, RAW if terminal else MULTIPLEXED)

    @routes.get("/containers/<wanted>/top")
    def top(wanted: str) -> Response:
        container = containers.running(wanted)
        return answer(_processes(containers, container, request.args.get("ps_args") or "-ef"))

    @routes.get("/containers/<wanted>/stats")
    def stats(wanted: str) -> Response:
        container = containers.index.get(wanted)
        if not flag("stream") and "stream" in request.args:
            return answer(_usage(containers, container, {}))
        return chunked(json_lines(_usages(containers, container)))

    return routes


def parse_time(text: str | None) -> float | None:
    """Return seconds since 1970 of a number or an RFC 3339 time; None if there is none.

    Raises: BadParameter.
    """
    if not text or text == "0":
        return None
    try:
        return float(text)
    except ValueError:
        try:
            return datetime.datetime.fromisoformat(text).timestamp()
        except ValueError as exc:
            raise BadParameter(f"cannot read the time {text!r}: give seconds or an RFC 3339 time") from exc


def _log_pieces(
    containers: Containers, container: Container, wanted: logs.Wanted, *, follow: bool, timestamps: bool
) -> Iterator[bytes | None]:
    def follows() -> bool:
        found = containers.index.find(container.id) if follow else None
        return found is not None and found.alive

    for line in logs.read(containers.bundles.log(container), wanted, follows):
        if line is None:
            yield None
            continue
        text = f"{line.written} ".encode() + line.text if timestamps else line.text
        yield text if container.config.get("Tty") else frame(line.stream, text)


def _processes(containers: Containers, container: Container, arguments: str) -> dict[str, Any]:
    inside = {str(pid) for pid in containers.processes.processes(container.id)}
    heading, *rows = containers.processes.table(arguments.split()).splitlines()
    titles = heading.split()
    if "PID" not in titles:
        raise Failed(f"cannot show the processes of {container.name}: ps {arguments} has no column PID")
    split = [row.split(None, len(titles) - 1) for row in rows]
    place = titles.index("PID")
    return {"Titles": titles, "Processes": [row for row in split if row[place] in inside]}


def _usages(containers: Containers, container: Container) -> Iterator[dict[str, Any] | None]:
    before: dict[str, Any] = {}
    while (found := containers.index.find(container.id)) is not None:
        before = _usage(containers, found, before)
        yield before
        time.sleep(1.0)


def _usage(containers: Containers, container: Container, before: dict[str, Any]) -> dict[str, Any]:
    empty: dict[str, Any] = {}
    told = containers.processes.usage(container.id) if container.alive else empty
    cpu, memory = told.get("cpu", {}), told.get("memory", {})
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with Path("/proc/stat").open(encoding="ascii") as counters:
        ticks = sum(int(word) for word in counters.readline().split()[1:8])
    used = {
        "cpu_usage": {"total_usage": cpu.get("usage", {}).get("total", 0),
                      "usage_in_usermode": cpu.get("usage", {}).get("user", 0),
                      "usage_in_kernelmode": cpu.get("usage", {}).get("kernel", 0)},
        "system_cpu_usage": ticks * 10_000_000, "online_cpus": len(cpu.get("usage", {}).get("percpu") or [0]),
        "throttling_data": cpu.get("throttling", {}),
    }  # fmt: skip
    return {
        "id": container.id, "name": f"/{container.name}", "read": datetime.datetime.now(datetime.UTC).isoformat(),
        "cpu_stats": used, "precpu_stats": before.get("cpu_stats", {"cpu_usage": {"total_usage": 0}}),
        "memory_stats": {"usage": memory.get("usage", {}).get("usage", 0), "stats": memory.get("raw") or {},
                         # Without a limit the kernel says a number that no machine has.
                         "limit": min(memory.get("usage", {}).get("limit", 0), machine)},
        "pids_stats": told.get("pids", {}), "networks": {},
        "blkio_stats": {"io_service_bytes_recursive": told.get("blkio", {}).get("ioServiceBytesRecursive")},
    }  # fmt: skip
