"""Containers as the docker CLI sees them: real conmon, runc and overlayfs."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.runtime.machine import Machine

NO_NETWORK = ("--network", "none")
WAITS = "trap 'exit 7' TERM; echo up; sleep 99 & wait"


def eventually(holds: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def state(machine: Machine, name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(machine.docker("inspect", "-f", "{{json .State}}", name))
    return found


@pytest.mark.parametrize(
    ("command", "code"),
    [(["sh", "-c", "exit 3"], 3), (["nosuch"], 127), (["/etc"], 126)],
)
def test_exit_codes_are_those_of_dockerd(machine: Machine, command: list[str], code: int) -> None:
    assert machine.try_docker("run", "--rm", *NO_NETWORK, "lab", *command).returncode == code
    assert machine.docker("ps", "-aq") == ""


def test_what_is_missing_is_named(machine: Machine) -> None:
    for arguments, word in (
        (("run", "--rm", "nosuch"), "docker load"),
        (("run", "--rm", *NO_NETWORK, "--device-read-bps", "/dev/null:1", "lab", "true"), "BlkioDeviceReadBps"),
        (("run", "--rm", *NO_NETWORK, "--userns", "host", "lab", "true"), "UsernsMode"),
        (("swarm", "init"), "/swarm/init"),
        (("run", "--rm", "--network", "nosuch", "lab", "true"), "nosuch"),
    ):
        done = machine.try_docker(*arguments)
        assert done.returncode != 0
        assert word in done.stderr
    assert machine.docker("ps", "-aq") == ""


def test_output_and_input_reach_the_client_apart(machine: Machine) -> None:
    done = machine.try_docker("run", "-i", "--rm", *NO_NETWORK, "lab", "sh", "-c", "cat; echo no >&2", stdin="typed\n")
    assert (done.stdout, done.stderr) == ("typed\n", "no\n")


def test_much_output_is_whole(machine: Machine) -> None:
    text = machine.docker("run", "--rm", *NO_NETWORK, "lab", "seq", "100000")
    assert text.split() == [str(number) for number in range(1, 100001)]


def test_a_terminal_has_a_size_and_echoes(machine: Machine) -> None:
    command = "DOCKER_HOST=unix:///run/pyrun/pyrun.sock docker run --rm -it --network none lab sh -c 'tty; exit 5'"
    done = machine.namespace.try_run("script", "-qec", command, "/dev/null")
    assert "/dev/pts/0" in done.stdout
    assert done.returncode == 5


def test_the_options_of_run_reach_the_process(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "seen").write_text("from the host\n")
    script = (
        "id -g; pwd; hostname; echo $A; cat /host/seen; touch /x /host/y 2>/dev/null || echo read-only; touch /tt/z;"
        " ls /tt; tail -n 1 /etc/hosts; cat /etc/resolv.conf; ulimit -n; grep -c NoNewPrivs:.1 /proc/self/status;"
        " grep CapBnd /proc/self/status"
    )
    told = machine.docker(
        "run", "--rm", *NO_NETWORK, "-e", "A=b", "-w", "/tmp", "-u", "root:nogroup", "--hostname", "named",
        "--read-only", "--tmpfs", "/tt:mode=1777", "-v", f"{tmp_path}:/host:ro", "--add-host", "other:192.0.2.9",
        "--dns", "192.0.2.53",
        "--ulimit", "nofile=100:200", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--memory", "64m",
        "--pids-limit", "50", "--entrypoint", "sh", "lab", "-c", script,
    )  # fmt: skip
    assert told.splitlines() == [
        "99", "/tmp", "named", "b", "from the host", "read-only", "z", "192.0.2.9\tother", "nameserver 192.0.2.53",
        "100", "1", "CapBnd:\t0000000000000000",
    ]  # fmt: skip


def test_a_container_is_confined(machine: Machine) -> None:
    script = (
        "unshare -m true 2>/dev/null || echo no namespaces; mount -t tmpfs x /tmp 2>/dev/null || echo no mounts;"
        " wc -c < /proc/keys; echo 1 2>/dev/null > /proc/sys/kernel/panic || echo no sysctls; ls /dev/vda 2>&1 | wc -l;"
        " grep Seccomp: /proc/self/status"
    )
    told = machine.docker("run", "--rm", *NO_NETWORK, "lab", "sh", "-c", script).splitlines()
    assert told == ["no namespaces", "no mounts", "0", "no sysctls", "1", "Seccomp:\t2"]


def test_life_from_create_to_rm(machine: Machine) -> None:
    machine.docker(
        "create", "--name", "life", *NO_NETWORK, "lab", "sh", "-c", "trap 'exit 7' TERM; echo up; sleep 99 & wait"
    )
    assert state(machine, "life")["Status"] == "created"
    machine.docker("start", "life")
    eventually(lambda: machine.docker("logs", "life") == "up")
    machine.docker("pause", "life")
    assert state(machine, "life")["Status"] == "paused"
    assert machine.try_docker("exec", "life", "true").returncode == 1
    machine.docker("unpause", "life")
    machine.docker("rename", "life", "lives")
    assert machine.try_docker("rm", "lives").returncode == 1
    assert "already in use" in machine.try_docker("create", "--name", "lives", *NO_NETWORK, "lab", "true").stderr
    assert "sleep 99" in machine.docker("top", "lives")
    machine.docker("stop", "lives")
    assert state(machine, "lives")["ExitCode"] == 7
    machine.docker("restart", "lives")
    eventually(lambda: machine.docker("logs", "--tail", "1", "lives") == "up")
    assert machine.docker("ps", "--filter", "name=lives", "--format", "{{.Names}} {{.Image}}") == "lives lab"
    machine.docker("kill", "lives")
    assert machine.docker("wait", "lives") == "137"
    machine.docker("rm", "lives")
    assert machine.docker("ps", "-aq") == ""


def test_exec_runs_beside_it(machine: Machine) -> None:
    machine.docker("run", "-d", "--name", "host1", "-e", "A=b", *NO_NETWORK, "lab", "sleep", "99")
    assert machine.docker("exec", "-i", "-e", "C=d", "-w", "/tmp", "host1", "sh", "-c", "cat; echo $A $C; pwd",
                          stdin="in\n") == "in\nb d\n/tmp"  # fmt: skip
    assert machine.try_docker("exec", "host1", "sh", "-c", "exit 7").returncode == 7
    missing = machine.try_docker("exec", "host1", "nosuch")
    assert missing.returncode == 127
    assert "executable file not found" in missing.stdout + missing.stderr
    machine.docker("rm", "-f", "host1")


def test_restart_policies(machine: Machine) -> None:
    machine.docker("run", "-d", "--name", "twice", "--restart", "on-failure:2", *NO_NETWORK, "lab", "false")
    eventually(lambda: state(machine, "twice")["Status"] == "exited")
    assert machine.docker("inspect", "-f", "{{.RestartCount}}", "twice") == "2"
    machine.docker("run", "-d", "--name", "ever", "--restart", "always", *NO_NETWORK, "lab", "true")
    eventually(lambda: int(machine.docker("inspect", "-f", "{{.RestartCount}}", "ever")) > 1)
    machine.docker("stop", "ever")
    count = machine.docker("inspect", "-f", "{{.RestartCount}}", "ever")
    time.sleep(1.0)
    assert machine.docker("inspect", "-f", "{{.RestartCount}}", "ever") == count
    machine.docker("rm", "-f", "twice", "ever")


def test_logs_are_kept_cut_and_followed(machine: Machine) -> None:
    machine.docker("run", "--name", "said", *NO_NETWORK, "lab", "sh", "-c", "seq 5; printf end; echo no >&2")
    done = machine.try_docker("logs", "said")
    assert (done.stdout, done.stderr) == ("1\n2\n3\n4\n5\nend", "no\n")
    assert machine.docker("logs", "--follow", "--tail", "2", "said") == "end"
    assert machine.try_docker("logs", "--since", "2999-01-01T00:00:00Z", "said").stdout == ""
    assert machine.docker("logs", "-t", "said").startswith(time.strftime("20%y-"))
    machine.docker("rm", "said")


def test_files_are_copied_in_and_out(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "deep" / "file").write_text("text\n")
    machine.docker("run", "-d", "--name", "files", *NO_NETWORK, "lab", "sleep", "99")
    machine.docker("exec", "files", "ln", "-s", "/", "/out")
    machine.docker("cp", str(tmp_path / "in"), "files:/out/tmp/copied")
    assert machine.docker("exec", "files", "cat", "/tmp/copied/deep/file") == "text"
    assert not Path("/tmp/copied").exists()
    machine.docker("stop", "-t", "0", "files")
    machine.docker("cp", "files:/tmp/copied", str(tmp_path / "back"))
    assert (tmp_path / "back" / "deep" / "file").read_text() == "text\n"
    assert machine.try_docker("cp", "files:/nosuch", "-").returncode == 1
    machine.docker("rm", "files")
