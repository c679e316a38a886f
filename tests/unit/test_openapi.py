"""The description of the sockets for administrators: valid, whole, and the one in docs/ is that of the code."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from openapi_spec_validator import validate

from netplugin.admin import api as pynet_api
from pluginkit import wire
from pluginkit.metrics import Metrics
from pluginkit.openapi.description import describe
from pluginkit.server import Method, create_admin_app
from volplugin.admin import api as pyvol_api

ROOT = Path(__file__).parents[2]
TABLES = {"pynet": pynet_api.METHODS, "pyvol": pyvol_api.METHODS}
plugins = pytest.mark.parametrize("name", TABLES)


def described(name: str) -> Any:
    return msgspec.json.decode(wire.encode(describe(name, TABLES[name])))


@plugins
def test_it_is_valid_and_has_every_method_with_words(name: str) -> None:
    found = described(name)
    validate(found)
    assert set(found["paths"]) == {f"/{method.name}" for method in TABLES[name]}
    for path, item in found["paths"].items():
        operation = item["post"]
        assert re.search(r"[.:?]$", operation["summary"]), path
        assert ("requestBody" in operation) == bool({each.name: each.request for each in TABLES[name]}[path[1:]]), path
    for schema, content in found["components"]["schemas"].items():
        assert content.get("description") or schema == "Failure", schema


@plugins
def test_it_is_served_and_stands_in_the_docs(name: str) -> None:
    answer = create_admin_app(name, TABLES[name], Metrics(name)).test_client().get("/v1/openapi.json")
    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    assert answer.json == described(name)
    printed = subprocess.run(
        [Path(sys.executable).with_name(name), "api"], capture_output=True, check=True, text=True
    ).stdout
    assert msgspec.json.decode(printed) == described(name)
    assert (ROOT / "docs" / f"api-{name}.json").read_text() == printed, "make docs"


def test_what_a_verb_may_answer_is_told() -> None:
    class Driver:
        def maybe(self) -> int | None:
            """Return a number, if there is one.

            Raises: nothing.
            """

    [item] = describe("pynet", [Method("A.Maybe", None, Driver.maybe)])["paths"].values()
    told = item["post"]
    assert told["summary"] == "Return a number, if there is one."
    assert told["description"].endswith("Raises: nothing.")
    schema = told["responses"]["200"]["content"]["application/json"]["schema"]
    assert schema == {"anyOf": [{"type": "integer"}, {"type": "object", "maxProperties": 0}]}
