"""What is computed from a request alone."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.api.attaching import parse_keys, without_keys
from runtime.containers.mounts import parse_mounts
from runtime.containers.record import Container
from runtime.containers.request import parse_host, parse_name
from runtime.containers.security import capabilities, seccomp
from runtime.containers.spec import signal_number
from runtime.errors import ApiError, BadParameter, NotFound, Unsupported
from runtime.images.reference import parse_reference


def nobody(name: str) -> Container:
    raise NotFound(name)


@pytest.mark.parametrize(
    ("text", "name"),
    [("lab", "lab:latest"), ("docker.io/library/lab:1", "lab:1"), ("host:5000/a/b", "host:5000/a/b:latest"),
     ("a__b/c-d.e", "a__b/c-d.e:latest")],
)  # fmt: skip
def test_names_of_images(text: str, name: str) -> None:
    assert parse_reference(text) == name


@pytest.mark.parametrize("text", ["", "UPPER", "a:", "a b", "../x", "a//b", "a:" + "x" * 129, "-a"])
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(BadParameter, match="invalid reference format"):
        parse_reference(text)


@given(st.binary(max_size=30).map(lambda text: bytes(byte % 3 for byte in text)), st.integers(1, 30))
def test_detach_keys_are_found_however_they_are_cut(typed: bytes, cut: int) -> None:
    keys, sent, held, left = b"\x01\x02", b"", b"", False
    for start in range(0, len(typed), cut):
        fresh, held, left = without_keys(held + typed[start : start + cut], keys)
        sent += fresh
        if left:
            break
    assert left == (keys in typed)
    assert sent + held == (typed.partition(keys)[0] if left else typed)


def test_spelling_of_detach_keys() -> None:
    assert parse_keys("") == b"\x10\x11"
    assert parse_keys("ctrl-a,x,ctrl-[") == b"\x01x\x1b"
    for wrong in ("ctrl-", "ab", "ctrl-1", ","):
        with pytest.raises(BadParameter):
            parse_keys(wrong)


@pytest.mark.parametrize(
    ("host", "kind"),
    [({"Devices": [{"PathOnHost": "/dev/null"}]}, Unsupported), ({"SecurityOpt": ["apparmor=mine"]}, Unsupported),
     ({"RestartPolicy": {"Name": "sometimes"}}, BadParameter), ({"Memory": 1}, BadParameter),
     ({"RestartPolicy": {"Name": "always", "MaximumRetryCount": 3}}, BadParameter),
     ({"AutoRemove": True, "RestartPolicy": {"Name": "always"}}, BadParameter),
     ({"IpcMode": "host"}, Unsupported), ({"LogConfig": {"Type": "syslog", "Config": {}}}, Unsupported),
     ({"NanoCpus": 1, "CpuQuota": 1}, BadParameter), ({"MemorySwap": 8 << 20}, BadParameter)],
)  # fmt: skip
def test_options_that_cannot_be_met_are_refused(host: dict[str, object], kind: type[ApiError]) -> None:
    with pytest.raises(kind):
        parse_host({"HostConfig": host})


@pytest.mark.parametrize(
    "host",
    [{"Binds": ["/a:b"]}, {"Binds": ["a:/"]}, {"Binds": ["a:/x/../y"]}, {"Binds": ["/a:/b:nonsense"]},
     {"Binds": ["/a:/b", "/c:/b"]}, {"Binds": ["a:/b:rshared"]},
     {"Mounts": [{"Type": "bind", "Source": "a", "Target": "/b"}]},
     {"Mounts": [{"Type": "npipe", "Target": "/b"}]}, {"Binds": ["/a:/b"], "Tmpfs": {"/b/": ""}}],
)  # fmt: skip
def test_mounts_that_make_no_sense_are_refused(host: dict[str, object]) -> None:
    with pytest.raises(ApiError):
        parse_mounts({}, host, nobody)


def test_a_volume_of_the_image_yields_to_an_option() -> None:
    wishes = parse_mounts(
        {"Volumes": {"/data": {}, "/more": {}}}, {"Binds": ["name:/data:ro"], "VolumeDriver": "d"}, nobody
    )
    assert [(wish.kind, wish.source, wish.target, wish.read_only, wish.driver) for wish in wishes] == [
        ("volume", "name", "/data", True, "d"), ("volume", "", "/more", False, "d"),
    ]  # fmt: skip


def test_capabilities_and_what_they_open() -> None:
    assert capabilities(["net_admin"], ["ALL"], False) == ["CAP_NET_ADMIN"]
    assert "CAP_CHOWN" not in capabilities([], ["CHOWN"], False)
    with pytest.raises(BadParameter, match="CAP_FLY"):
        capabilities(["FLY"], [], False)


def _allowed(*granted: str) -> dict[str, list[dict[str, Any]]]:
    """The calls that are allowed at all, each with the conditions under which it is."""
    found: dict[str, list[dict[str, Any]]] = {}
    for rule in seccomp(granted)["syscalls"]:
        if rule["action"] == "SCMP_ACT_ALLOW":
            for name in rule["names"]:
                found.setdefault(name, []).extend(rule.get("args", []))
    return found


def test_a_call_that_nobody_listed_is_refused() -> None:
    assert (seccomp([])["defaultAction"], seccomp([])["defaultErrnoRet"]) == ("SCMP_ACT_ERRNO", 1)
    usual = _allowed(*capabilities([], [], False))
    assert {"read", "openat2", "execve", "chroot", "ptrace", "futex_waitv"} <= usual.keys()
    assert not {"mount", "unshare", "setns", "bpf", "keyctl", "io_uring_setup", "userfaultfd", "reboot",
                "a_call_of_tomorrow"} & usual.keys()  # fmt: skip
    assert [argument["value"] for argument in usual["socket"]] == [40], "AF_VSOCK"
    assert usual["clone"] == [{"index": 0, "value": 0x7E020000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]
    assert len(usual["personality"]) == 5


def test_a_capability_opens_its_calls_and_no_others() -> None:
    nobody, administrator = _allowed(), _allowed("CAP_SYS_ADMIN")
    assert {"mount", "setns", "clone3", "bpf"} <= administrator.keys()
    assert administrator["clone"] == []
    assert not {"keyctl", "reboot", "open_by_handle_at"} & administrator.keys()
    assert "chroot" not in nobody
    assert _allowed("CAP_SYS_TIME").keys() - nobody.keys() == {
        "clock_settime", "clock_settime64", "settimeofday", "stime",
    }  # fmt: skip


def test_names_and_signals() -> None:
    assert (signal_number("TERM"), signal_number("SIGKILL"), signal_number("2")) == (15, 9, 2)
    for wrong in ("", "0", "65", "SIG_IGN", "NOSUCH"):
        with pytest.raises(BadParameter):
            signal_number(wrong)
    assert parse_name("/web") == "web"
    for name in ("", "a", "-ab", "a/b", "../ab"):
        with pytest.raises(BadParameter):
            parse_name(name)
