"""Helper programs, run in the only way there is: an argument list, a time limit, the C locale."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO

from pluginkit.errors import CommandError

# Administrators' tools live there, and a service manager's PATH may lack them.
_SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Completed:
    """What a program left behind; stderr is stripped."""

    returncode: int
    stdout: str
    stderr: str


def is_installed(program: str) -> bool:
    """Return whether there is such a program where `run` looks for it."""
    return shutil.which(program, path=_environment()["PATH"]) is not None


@contextmanager
def afterwards(argv: Sequence[str], *, timeout_s: float) -> Iterator[None]:
    """The program has been run when the block was left; also if this process dies in it, or is in it for too long.

    What it says and how it ends nobody knows: it is for what must not stay as it is, whatever becomes of us.

    Raises: CommandError: it could not be prepared, and the block was not entered.
    """
    environment = _environment()
    for needed in ("timeout", "cat", argv[0]):
        if not is_installed(needed):
            raise CommandError([needed], "there is no such program; is the package that holds it installed?", None)
    # The pipe ends with us, however that comes about. A session of its own: signals to our group do not reach it.
    waiting = ["sh", "-c", 'timeout "$0" cat >/dev/null; exec "$@"', f"{timeout_s:g}", *argv]
    try:
        program = subprocess.Popen(
            waiting,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env=environment,
        )
    except OSError as exc:
        raise CommandError(waiting, str(exc.strerror), None) from exc
    with program:
        yield


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
    try:
        with subprocess.Popen(
            list(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            env=_environment(),
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


@contextmanager
def reading(argv: Sequence[str], *, timeout_s: float | None = None) -> Iterator[IO[bytes]]:
    """Inside the block what the program prints can be read; after it, it has ended well. It takes as long as it takes.

    timeout_s: the most that it takes after the block; who reads in it sees to the time himself.

    Raises: CommandError: it has not. If another error left the block, it was killed.
    """
    with _piped(argv, stdout=subprocess.PIPE, timeout_s=timeout_s) as program:
        assert program.stdout is not None
        yield program.stdout


@contextmanager
def writing(argv: Sequence[str], *, silent: bool = False) -> Iterator[IO[bytes]]:
    """Inside the block the program can be written to; after it, it has ended well. silent: and had nothing to say.

    Raises: CommandError: it has not. If another error left the block, it was killed.
    """
    with _piped(argv, stdin=subprocess.PIPE, silent=silent) as program:
        assert program.stdin is not None
        # Who ends early has not read all of it, and says why.
        with suppress(BrokenPipeError):
            yield program.stdin
        with suppress(BrokenPipeError):
            program.stdin.close()


@contextmanager
def _piped(
    argv: Sequence[str],
    *,
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.DEVNULL,
    silent: bool = False,
    timeout_s: float | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    # Not a pipe, which would have to be read meanwhile; and not a file, which there may be no place for.
    errors = os.memfd_create("stderr", os.MFD_CLOEXEC)
    try:
        try:
            program = subprocess.Popen(list(argv), stdin=stdin, stdout=stdout, stderr=errors, env=_environment())
        except OSError as exc:
            hint = "; is the package that holds it installed?" if isinstance(exc, FileNotFoundError) else ""
            raise CommandError(argv, f"{exc.strerror}{hint}", None) from exc
        with program:
            try:
                yield program
                if program.stdout is not None:
                    # What nobody reads any more, it need not wait to get rid of.
                    program.stdout.close()
                program.wait(timeout_s)
            except subprocess.TimeoutExpired as exc:
                program.kill()
                raise CommandError(argv, f"no end after {timeout_s:g} s, killed", None) from exc
            except BaseException:
                program.kill()
                raise
        said = os.pread(errors, 1 << 16, 0).decode(errors="replace").strip()
        if program.returncode or (silent and said):
            raise CommandError(argv, f"{(said.splitlines() or ['no message'])[0]}", program.returncode)
    finally:
        os.close(errors)


def _environment() -> dict[str, str]:
    # An empty element would stand for the working directory.
    path = ":".join(part for part in (os.environ.get("PATH"), _SEARCH_PATH) if part)
    return {**os.environ, "LC_ALL": "C", "PATH": path}
