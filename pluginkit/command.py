"""Helper programs, run in the only way there is: an argument list, a time limit, the C locale."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pluginkit.errors import CommandError

# Administrators' tools live there, and a service manager's PATH may lack them.
_SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Completed:
    """What a program left behind; stderr is stripped."""

    returncode: int
    stdout: str
    stderr: str


def run(
    argv: Sequence[str],
    *,
    stdin: str = "",
    timeout_s: float = 20.0,
    accept: Sequence[int] = (0,),
    pass_fds: Sequence[int] = (),
    started: Callable[[int], None] = lambda _pid: None,
) -> Completed:
    """The program has ended with one of the exit codes in `accept`, or CommandError says why not.

    A program that outlives `timeout_s` is killed first. started: called with its pid before it is given `stdin`.

    Raises: CommandError: not found, timed out, or another exit code; the message carries the last line of stderr.
    """
    # An empty element would stand for the working directory.
    path = ":".join(part for part in (os.environ.get("PATH"), _SEARCH_PATH) if part)
    environment = {**os.environ, "LC_ALL": "C", "PATH": path}
    try:
        with subprocess.Popen(
            list(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            env=environment,
            pass_fds=pass_fds,
        ) as program:
            try:
                started(program.pid)
                out, err = program.communicate(stdin, timeout=timeout_s)
            except BaseException:
                program.kill()
                raise
    except subprocess.TimeoutExpired as exc:
        raise CommandError(argv, f"no end after {timeout_s:g} s, killed", None) from exc
    except OSError as exc:
        hint = "; is the package that holds it installed?" if isinstance(exc, FileNotFoundError) else ""
        raise CommandError(argv, f"{exc.strerror}{hint}", None) from exc
    stderr = err.strip()
    if program.returncode not in accept:
        lines = stderr.splitlines() or out.strip().splitlines() or ["no message"]
        raise CommandError(argv, f"{lines[-1]} (exit code {program.returncode})", program.returncode)
    return Completed(program.returncode, out, stderr)
