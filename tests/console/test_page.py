"""The console in a real browser, beside a real pynet and pyvol; and what is refused to others."""

from __future__ import annotations

import http.client
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.console.stage import Stage, stage
from tests.network.engine import port
from tests.network.samples import ENDPOINT_ID, NETWORK_ID

# A container can be called nothing like it; what an engine says is shown as it is all the same.
HOSTILE = '<script>document.title="had"</script><img src=x onerror="document.title=\'had\'">'
PATIENCE_MS = 60_000
PYVOL = Path(sys.executable).with_name("pyvol")
CHROMIUM = "/usr/bin/chromium"


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A network with a container that is published twice, a volume with a snapshot, something that was refused."""
    containers = {ENDPOINT_ID: (HOSTILE, NETWORK_ID)}
    with stage(tmp_path_factory.mktemp("console"), {NETWORK_ID: "shop"}, containers) as made:
        status, answer = made.engine.create_network()
        assert status == 200, answer
        made.engine.run(port(80, 8080), port(9229, 9229, host_ip="127.0.0.1"))
        made.engine.error("CreateNetwork", NetworkID="f" * 64, Options={}, IPv4Data=[{"Pool": HOSTILE}], IPv6Data=[])
        made.pyvol.call("Create", Name="notes", Opts={"size": "32M"})
        mounted = Path(made.pyvol.call("Mount", Name="notes", ID="c")["Mountpoint"])
        (mounted / "file").write_bytes(bytes(20 << 20))
        yield made
        made.pyvol.call("Unmount", Name="notes", ID="c")


@pytest.fixture(scope="module")
def browser(shown: Stage) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu"]
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments, timeout=PATIENCE_MS)
        yield launched
        launched.close()


def opened(browser: Browser, shown: Stage, **wanted: Any) -> Page:
    """The page, once it shows what there is."""
    page = browser.new_context(**wanted).new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(shown.opened)
    expect(page.locator("#live")).to_have_text("live", timeout=PATIENCE_MS)
    expect(page.locator("#volumes td").first).to_contain_text("notes", timeout=PATIENCE_MS)
    expect(page.locator("#endpoints td").nth(1)).to_have_text("shop", timeout=PATIENCE_MS)
    return page


def rows(page: Page, table: str) -> list[str]:
    return [re.sub(r"\s+", " ", text) for text in page.locator(f"#{table} tbody tr").all_inner_texts()]


def test_all_of_it_is_shown_and_names_are_only_text(browser: Browser, shown: Stage) -> None:
    page = opened(browser, shown)
    assert page.url == f"{shown.address}/", "the key does not stay in the address"
    anybody, host = rows(page, "ports")
    assert "8080/tcp" in anybody
    assert "anybody who reaches this host" in anybody
    assert "9229/tcp" in host
    assert "this host only" in host
    assert HOSTILE in page.locator("#ports td").nth(1).inner_text()
    assert page.title().endswith("pynet console")
    assert page.locator("main img, main script").count() == 0
    [network] = rows(page, "networks")
    assert "10.9.0.0/24" in network
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", ("10.9.0.2", 5353))
    # It is forgotten after half a minute.
    expect(page.locator("#flows")).to_contain_text("10.9.0.2:5353", timeout=PATIENCE_MS)
    [volume] = rows(page, "volumes")
    assert "of 32.0 MiB" in volume
    assert page.locator("#volumes meter").count() == 1
    expect(page.locator("#health .note")).to_contain_text("pynet", timeout=PATIENCE_MS)
    expect(page.locator("#health")).to_contain_text("anybody who reaches this host reaches", timeout=PATIENCE_MS)
    refused = next(row for row in rows(page, "events") if "failed" in row)
    assert "CreateNetwork" in refused
    page.context.close()


def test_it_is_live_and_says_so_when_it_is_not(browser: Browser, shown: Stage) -> None:
    page = opened(browser, shown)
    assert len(rows(page, "volumes")) == 1
    shown.pyvol.call("Create", Name="more", Opts={"size": "16M"})
    expect(page.locator("#volumes tbody tr")).to_have_count(2, timeout=PATIENCE_MS)
    shown.pyvol.call("Remove", Name="more")
    expect(page.locator("#volumes tbody tr")).to_have_count(1, timeout=PATIENCE_MS)
    page.context.set_offline(True)
    expect(page.locator("#live")).to_contain_text("no answer", timeout=PATIENCE_MS)
    page.context.set_offline(False)
    expect(page.locator("#live")).to_have_text("live", timeout=PATIENCE_MS)
    page.context.close()


def test_other_hosts_snapshots_and_what_others_changed(browser: Browser, shown: Stage) -> None:
    blue = "e" * 64
    options = {"type": "overlay", "name": "blue", "peers": "192.0.2.2,192.0.2.3"}
    status, answer = shown.engine.create_network(blue, subnet="10.8.0", **options)
    assert status == 200, answer
    snapshot = [str(PYVOL), "snapshot", "create", "notes@noon", "--state-dir", str(shown.pyvol.state_dir)]
    subprocess.run(snapshot, check=True, timeout=60)
    subprocess.run(["ip", "link", "set", f"pn-{NETWORK_ID[:8]}", "down"], check=True, timeout=60)
    page = opened(browser, shown)
    expect(page.locator("#hosts tbody tr")).to_have_count(2, timeout=PATIENCE_MS)
    [own, peer] = rows(page, "hosts")
    assert "this host" in own
    assert "192.0.2.3" in peer
    assert blue[:12] in peer
    expect(page.locator("#snapshots")).to_contain_text("notes@noon", timeout=PATIENCE_MS)
    for kind in ("drift-seen", "drift-repaired"):
        expect(page.locator("#events")).to_contain_text(kind, timeout=PATIENCE_MS)
    shown.engine.ok("DeleteNetwork", NetworkID=blue)
    expect(page.locator("#hosts tbody tr")).to_have_count(1, timeout=PATIENCE_MS)
    page.context.close()


def test_by_keyboard(browser: Browser, shown: Stage) -> None:
    page = opened(browser, shown)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("7")
    assert page.evaluate("document.activeElement.id") == "volumes-title"
    page.keyboard.press("/")
    page.keyboard.type("9229")
    expect(page.locator("#ports tbody tr")).to_have_count(1)
    expect(page.locator("#ports h2")).to_contain_text("1 of 2")
    page.keyboard.press("Escape")
    expect(page.locator("#ports tbody tr")).to_have_count(2)
    seen = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.closest('section')?.id ?? document.activeElement.tagName"))
    assert {"health", "ports", "volumes", "events"} <= seen, "each table can be scrolled without a mouse"
    page.context.close()


@pytest.mark.parametrize(
    "wanted",
    [
        {"viewport": {"width": 1440, "height": 900}},
        {"viewport": {"width": 1440, "height": 900}, "color_scheme": "dark"},
        {"viewport": {"width": 360, "height": 800}},
    ],
    ids=["desktop", "dark", "phone"],
)
def test_it_is_accessible_and_fits(browser: Browser, shown: Stage, wanted: dict[str, Any]) -> None:
    page = opened(browser, shown, **wanted)
    expect(page.locator("#health .note")).to_contain_text("Looked", timeout=PATIENCE_MS)
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= wanted["viewport"]["width"], "nothing sticks out to the side"
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    is_dark = max(map(int, re.findall(r"\d+", back)[:3])) < 64
    assert is_dark == (wanted.get("color_scheme") == "dark")
    page.context.close()


def ask(shown: Stage, path: str, verb: str = "GET", **headers: str) -> http.client.HTTPResponse:
    """The answer to somebody who has the key, if not told otherwise."""
    host = shown.address.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=60)
    first = http.client.HTTPConnection(host, timeout=60)
    first.request("GET", f"/?key={shown.key}")
    cookie = first.getresponse().getheader("Set-Cookie") or ""
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    first.close()
    connection.request(verb, path, headers={"Cookie": cookie.partition(";")[0], **headers})
    answer = connection.getresponse()
    answer.body = answer.read()  # type: ignore[attr-defined]
    connection.close()
    return answer


def test_who_has_the_key_is_answered_with_headers_that_keep_others_out(shown: Stage) -> None:
    answer = ask(shown, "/api/state")
    assert answer.status == 200
    assert json.loads(answer.body)["pynet"]["counts"]["networks"] == 1  # type: ignore[attr-defined]
    assert answer.getheader("Access-Control-Allow-Origin") is None
    assert answer.getheader("Cross-Origin-Resource-Policy") == "same-origin"
    policy = answer.getheader("Content-Security-Policy") or ""
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy


@pytest.mark.parametrize("cookie", ["", "pynet-console-0=guess"])
def test_who_has_no_key_is_told_nothing(shown: Stage, cookie: str) -> None:
    for path in ("/", "/api/state", "/page.js", "/?key=guess"):
        answer = ask(shown, path, Cookie=cookie)
        assert (answer.status, b"pynet console printed" in answer.body) == (403, True), path  # type: ignore[attr-defined]


def test_a_name_that_was_made_to_lead_here_is_refused(shown: Stage) -> None:
    """DNS rebinding: the browser takes it for the other page's own server, and says its name."""
    for host in ("evil.example", "evil.example:7780", "localhost.evil.example", "127.0.0.1@evil.example", "", "[::1"):
        assert ask(shown, "/api/state", Host=host).status == 421, host
    for host in ("localhost", "localhost:9999", "127.0.0.1:1", "[::1]:7780", "LOCALHOST"):
        assert ask(shown, "/api/state", Host=host).status == 200, host


def test_other_pages_can_neither_ask_nor_change(shown: Stage) -> None:
    """CSRF: there is nothing to change, and nothing is answered to another page."""
    for verb in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert ask(shown, "/api/state", verb, Origin="http://evil.example").status == 405, verb
    for path in ("/api/state", "/page.js"):
        for site in ("cross-site", "same-site"):
            assert ask(shown, path, **{"Sec-Fetch-Site": site}).status == 403
    assert ask(shown, "/", **{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}).status == 200
    for path in ("/../server.py", "/%2e%2e/server.py", "/server.py", "/api/state/", "/api"):
        assert ask(shown, path).status == 404, path


def test_it_listens_on_the_loopback_alone(shown: Stage) -> None:
    listening = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True).stdout
    local = [line.split()[3] for line in listening.splitlines() if f"pid={shown.console.pid}," in line]
    assert local == [shown.address.removeprefix("http://")]
    assert local[0].startswith("127.0.0.1:")
