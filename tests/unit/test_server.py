"""The protocol over HTTP, in process: every way to ask wrongly gets an answer that dockerd can read."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

import pytest
from flask.testing import FlaskClient

from pluginkit import caller, log
from pluginkit.errors import BadRequest, Conflict, KernelError, NotFound, StateError, Unavailable
from pluginkit.metrics import Metrics
from pluginkit.server import CONTENT_TYPE, MAX_BODY_BYTES, Method, create_app


@dataclass(frozen=True)
class Ask:
    Name: str
    Address: IPv4Address | None = None


@dataclass(frozen=True)
class Answer:
    Name: str
    Address: IPv4Address | None = None


def raising(exc: Exception) -> Callable[[Ask], None]:
    def verb(ask: Ask) -> None:
        raise exc

    return verb


@pytest.fixture
def client() -> FlaskClient:
    methods = [
        Method("Test.Echo", Ask, lambda ask: Answer(ask.Name, ask.Address)),
        Method("Test.Nothing", Ask, lambda ask: None),
        Method("Test.NoBody", None, lambda: {"answered": True}),
        Method("Test.Unspeakable", Ask, lambda ask: object()),
        Method("Test.Refuse", Ask, raising(BadRequest("cannot take option x"))),
        Method("Test.Fail", Ask, raising(Conflict("cannot take port 80: e1 has it"))),
        Method("Test.Group", Ask, raising(ExceptionGroup("g", [NotFound("cannot find a"), Conflict("cannot take b")]))),
        Method("Test.Bug", Ask, raising(ZeroDivisionError("secret detail"))),
        Method("Test.BugInGroup", Ask, raising(ExceptionGroup("g", [NotFound("cannot"), KeyError("secret detail")]))),
        Method("Test.State", Ask, raising(StateError("cannot read it"))),
        Method("Test.Kernel", Ask, raising(KernelError("create", "link a\n\u00e9", 17))),
        Method("Test.Later", Ask, raising(Unavailable("cannot save"))),
    ]
    return create_app("test", ["NetworkDriver", "IpamDriver"], methods, Metrics("test")).test_client()


def post(client: FlaskClient, method: str, body: bytes = b'{"Name": "n"}') -> tuple[int, dict[str, Any]]:
    """Return status and object of the answer, which must be of the protocol's type."""
    answer = client.post(f"/{method}", data=body)
    assert answer.content_type == CONTENT_TYPE
    content = json.loads(answer.data)
    assert isinstance(content, dict)
    return answer.status_code, content


def refused(client: FlaskClient, method: str, body: bytes = b'{"Name": "n"}') -> tuple[int, str]:
    """Return status and text of an error, which must be there for network and volume (Err) and for IPAM (Error)."""
    status, content = post(client, method, body)
    assert set(content) == {"Err", "Error"}
    assert content["Err"] == content["Error"] != ""
    return status, content["Err"]


def test_activate_says_what_is_implemented(client: FlaskClient) -> None:
    assert post(client, "Plugin.Activate", b"") == (200, {"Implements": ["NetworkDriver", "IpamDriver"]})


@pytest.mark.parametrize(
    ("method", "body", "answer"),
    [
        ("Test.Echo", b'{"Name":"n","Address":"10.0.0.1","New":[]}\n', {"Name": "n", "Address": "10.0.0.1"}),
        ("Test.Echo", b'{"Name":"n"}', {"Name": "n", "Address": None}),
        ("Test.Nothing", b'{"Name":"n"}', {}),
        ("Test.NoBody", b"", {"answered": True}),
        ("Test.NoBody", b"{}", {"answered": True}),
        ("Test.NoBody", b"garbage", {"answered": True}),
    ],
)
def test_success_is_200_with_an_object(client: FlaskClient, method: str, body: bytes, answer: dict[str, Any]) -> None:
    assert post(client, method, body) == (200, answer)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "empty"),
        (b"\n", "empty"),
        (b"garbage", "malformed"),
        (b"{}", "Name"),
        (b'{"Name": 5}', "Name"),
        (b'{"Name": "n", "Address": "x"}', "Address"),
        (b"[1]", "object"),
        (b"null", "object"),
        (b'{"Name": "\xff"}', "cannot read Ask"),
    ],
)
def test_an_unreadable_request_is_400(client: FlaskClient, body: bytes, text: str) -> None:
    status, err = refused(client, "Test.Echo", body)
    assert status == 400
    assert text in err


@pytest.mark.parametrize(
    ("method", "status", "text"),
    [
        ("Test.Refuse", 400, "cannot take option x"),
        ("Test.Fail", 500, "cannot take port 80: e1 has it"),
        ("Test.Group", 500, "cannot find a; cannot take b"),
        ("Test.State", 500, "cannot read it"),
        ("Test.Kernel", 500, "cannot create link a\n\u00e9: File exists (EEXIST)"),
        ("Test.Later", 500, "cannot save"),
    ],
)
def test_an_expected_error_is_told_in_full(client: FlaskClient, method: str, status: int, text: str) -> None:
    assert refused(client, method) == (status, text)


@pytest.mark.parametrize("method", ["Test.Bug", "Test.BugInGroup", "Test.Unspeakable"])
def test_a_bug_is_told_by_its_request_id_only(
    client: FlaskClient, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.handler.setFormatter(log.LineFormatter(journald=False))
    with caplog.at_level(logging.ERROR):
        status, err = refused(client, method)
    assert status == 500
    request_id = err.rpartition("request ")[2]
    assert err == f"internal error in {method}; see the plugin's log, request {request_id}"
    assert f"request={request_id} {method}\n" in caplog.text
    assert "Traceback" in caplog.text
    assert "secret detail" in caplog.text or method == "Test.Unspeakable"


def test_the_log_has_one_line_for_an_expected_error(client: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    refused(client, "Test.Kernel")
    assert [(record.levelname, record.exc_info) for record in caplog.records] == [("WARNING", None)]


@pytest.mark.parametrize("method", ["Test.Unknown", "NetworkDriver.Nothing", "", "Test.Echo/", "test.echo", "..%2f"])
def test_an_unknown_method_is_404_and_nothing_else_is(client: FlaskClient, method: str) -> None:
    status, err = refused(client, method)
    assert status == 404
    assert "not a method of this plugin" in err


@pytest.mark.parametrize("verb", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_another_http_method_is_405_with_err(client: FlaskClient, verb: str) -> None:
    answer = client.open("/Test.Echo", method=verb)
    assert answer.status_code == 405
    assert f"cannot answer {verb} /Test.Echo" in json.loads(answer.data)["Err"]


def test_a_body_above_the_limit_is_refused_before_it_is_read(client: FlaskClient) -> None:
    answer = client.post("/Test.Echo", environ_overrides={"CONTENT_LENGTH": str(MAX_BODY_BYTES + 1)})
    assert answer.status_code == 400
    assert str(MAX_BODY_BYTES) in json.loads(answer.data)["Err"]


@pytest.mark.parametrize("length", ["10", "1000000"])
def test_a_caller_that_dies_inside_its_request_is_not_our_bug(
    client: FlaskClient, length: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer = client.post("/Test.Echo", data=b'{"Na', environ_overrides={"CONTENT_LENGTH": length})
    assert answer.status_code == 400
    assert "cannot answer POST /Test.Echo" in json.loads(answer.data)["Err"]
    assert not [record for record in caplog.records if record.exc_info]


def test_a_large_body_is_read(client: FlaskClient) -> None:
    name = "x" * 2_000_000
    status, content = post(client, "Test.Echo", json.dumps({"Name": name}).encode())
    assert (status, content["Name"]) == (200, name)


def test_no_request_id_is_left_behind(client: FlaskClient) -> None:
    post(client, "Test.Echo")
    refused(client, "Test.Bug")
    assert log.request_id.get() == ""
    assert caller.current() == ""


def test_metrics_count_outcomes_by_known_method_only(client: FlaskClient) -> None:
    for method in ("Test.Echo", "Test.Echo", "Test.Fail", "Test.Bug", "Test.Unknown"):
        client.post(f"/{method}", data=b'{"Name":"n"}')
    answer = client.get("/metrics")
    assert answer.status_code == 200
    text = answer.get_data(as_text=True)
    for line in (
        'test_requests_total{method="Test.Echo",outcome="ok"} 2.0',
        'test_requests_total{method="Test.Fail",outcome="error"} 1.0',
        'test_requests_total{method="Test.Bug",outcome="bug"} 1.0',
    ):
        assert line in text
    assert "Test.Unknown" not in text
