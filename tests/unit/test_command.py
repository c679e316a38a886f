"""Helper programs: how they are started, stopped, and how their failures read."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from pluginkit.command import afterwards, reading, run, writing
from pluginkit.errors import CommandError


def sh(script: str) -> list[str]:
    return ["sh", "-c", script]


def test_what_is_run_afterwards_is_run_when_the_block_is_left(tmp_path: Path) -> None:
    with afterwards(["touch", str(tmp_path / "done")], timeout_s=60):
        time.sleep(0.2)
        assert not (tmp_path / "done").exists()
    assert (tmp_path / "done").exists()


def test_what_could_not_be_run_afterwards_is_told_before() -> None:
    with pytest.raises(CommandError, match="no-such-program"):
        with afterwards(["no-such-program"], timeout_s=60):
            pytest.fail("the block was entered")


def test_output_and_exit_code_are_returned() -> None:
    done = run(sh("echo out; echo ' err ' >&2"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "out\n", "err")


def test_stdin_is_passed_whole_and_ends() -> None:
    text = "line\n" * 100_000
    assert run(["cat"], stdin=text).stdout == text


def test_without_stdin_the_program_reads_end_of_file() -> None:
    assert run(["cat"]).stdout == ""


def test_a_program_that_ignores_a_long_stdin_is_no_error() -> None:
    assert run(["true"], stdin="x" * 1_000_000).returncode == 0


def test_arguments_are_never_read_by_a_shell(tmp_path: Path) -> None:
    nasty = f"; touch {tmp_path}/made $(touch {tmp_path}/made) `id` * '"
    assert run(["printf", "%s", nasty]).stdout == nasty
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exit 3", "no message (exit code 3)"),
        ("echo first >&2; echo last >&2; exit 1", "last (exit code 1)"),
        ("echo only out; exit 1", "only out (exit code 1)"),
        ("kill -9 $$", "no message (exit code -9)"),
        ("printf 'caf\\303\\251 \\377\\n' >&2; exit 2", "café \ufffd (exit code 2)"),
    ],
)
def test_a_failure_carries_the_last_line_of_what_was_said(script: str, reason: str) -> None:
    with pytest.raises(CommandError) as failed:
        run(sh(script))
    assert str(failed.value) == f"cannot run sh: {reason}"
    assert failed.value.argv == tuple(sh(script))


def test_output_that_is_not_utf8_is_still_output() -> None:
    assert run(["printf", r"a\377b"]).stdout == "a\ufffdb"


def test_accepted_exit_codes_are_returned_and_others_are_not() -> None:
    assert run(sh("exit 1"), accept=(0, 1)).returncode == 1
    with pytest.raises(CommandError) as failed:
        run(sh("exit 2"), accept=(0, 1))
    assert failed.value.returncode == 2


@pytest.mark.parametrize(
    ("name", "hint"),
    [("no-such-program-anywhere", "is the package that holds it installed?"), ("/etc/passwd", "Permission denied")],
)
def test_a_program_that_cannot_be_started_is_named(name: str, hint: str) -> None:
    with pytest.raises(CommandError) as failed:
        run([name])
    assert str(failed.value).startswith(f"cannot run {name}: ")
    assert hint in str(failed.value)
    assert failed.value.returncode is None


def test_a_program_that_outlives_its_time_is_killed(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(CommandError, match=r"no end after 0\.3 s, killed") as failed:
        run(sh(f"echo $$ > {tmp_path}/pid; exec sleep 60"), timeout_s=0.3)
    assert time.monotonic() - started < 10
    assert failed.value.returncode is None
    pid = int((tmp_path / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_messages_are_in_english_whatever_the_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert run(sh("echo $LC_ALL")).stdout == "C\n"


@pytest.mark.parametrize("path", [None, "", "/nowhere"])
def test_administrators_programs_are_found_and_the_working_directory_is_not_searched(
    path: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if path is None:
        monkeypatch.delenv("PATH")
    else:
        monkeypatch.setenv("PATH", path)
    trap = tmp_path / "planted-here"
    trap.write_text("#!/bin/sh\necho trapped\n")
    trap.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    assert run(["true"]).returncode == 0
    with pytest.raises(CommandError):
        run(["planted-here"])


def test_only_named_descriptors_are_inherited() -> None:
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    try:
        assert run(sh(f"echo through > /dev/fd/{writer}"), pass_fds=(writer,)).returncode == 0
        assert os.read(reader, 100) == b"through\n"
        with pytest.raises(CommandError):
            run(sh(f"echo through > /dev/fd/{writer}"))
    finally:
        os.close(reader)
        os.close(writer)


def test_a_program_that_is_read() -> None:
    with reading(["seq", "3"]) as said:
        assert said.read() == b"1\n2\n3\n"
    with pytest.raises(CommandError, match=r"cannot run ls: .*No such file"):
        with reading(["ls", "/no/such"]) as said:
            assert said.read() == b""
    with pytest.raises(CommandError, match="is the package that holds it installed"):
        with reading(["no-such-program"]):
            pass


def test_a_program_that_is_written_to(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with writing(["tee", str(out)]) as into:
        into.write(b"written")
    assert out.read_bytes() == b"written"
    with pytest.raises(CommandError, match="had enough"):
        with writing(["sh", "-c", "echo had enough >&2; exit 3"]) as into:
            into.write(bytes(100 << 20))
    with writing(["sh", "-c", "cat >/dev/null; echo by the way >&2"]) as into:
        into.write(b"x")
    with pytest.raises(CommandError, match="by the way"):
        with writing(["sh", "-c", "cat >/dev/null; echo by the way >&2"], silent=True) as into:
            into.write(b"x")


def test_a_program_is_killed_with_what_it_was_run_for() -> None:
    with pytest.raises(KeyError):
        with reading(["sleep", "1000000"]):
            raise KeyError
