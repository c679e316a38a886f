"""The OpenAPI description of an administrator's socket, made of the table of its methods and the types in it.

Source: OpenAPI Specification 3.1.0. Types come from the verbs' annotations, words from their docstrings.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from importlib.metadata import version
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import msgspec

from pluginkit.admin import SOCKET, VERSION
from pluginkit.server import LINES, Method

_PACKAGE = "pynet-pyvol"
_NOTHING = {"type": "object", "maxProperties": 0}
_TEXT = {"type": "string"}
_ERROR = {"type": "object", "required": ["Err", "Error"], "properties": {"Err": _TEXT, "Error": _TEXT}}
_FAILURES = {
    "400": "It was not done: the request cannot be used, or what it is about is not as it would have to be.",
    "404": "The plugin that runs has no such method.",
    "500": "It was not done, or not wholly: the machine did not let us.",
}


def describe(name: str, methods: Sequence[Method]) -> dict[str, Any]:
    """Return the description of the socket of plugin `name` on which these methods are answered."""
    wanted = [each for method in methods for each in (method.request, *_answers(method)) if each is not None]
    schemas, components = msgspec.json.schema_components(
        list(dict.fromkeys(wanted)), ref_template="#/components/schemas/{name}"
    )
    known = dict(zip(dict.fromkeys(wanted), schemas, strict=True))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"{name}, as its administrator reaches it",
            "version": version(_PACKAGE),
            "description": f"HTTP on the Unix socket {SOCKET} in the state directory. Every answer is a JSON object.",
        },
        "servers": [{"url": f"/{VERSION}"}],
        "paths": {f"/{method.name}": {"post": _operation(method, known)} for method in methods},
        "components": {
            "schemas": {**components, "Failure": _ERROR},
            "responses": {
                f"Status{status}": _content(what, _to("schemas/Failure")) for status, what in _FAILURES.items()
            },
        },
    }


def _operation(method: Method, known: dict[Any, Any]) -> dict[str, Any]:
    doc = inspect.getdoc(method.verb) or ""
    answers = [known[each] for each in _answers(method) if each is not None]
    if len(answers) < len(_answers(method)):
        answers.append(_NOTHING)
    operation: dict[str, Any] = {
        "operationId": method.name,
        "tags": [method.name.partition(".")[0]],
        "summary": " ".join(doc.partition("\n\n")[0].split()),
        "description": doc,
        "responses": {
            "200": _content(
                "An object a line." if method.lines else "It was done.",
                answers[0] if len(answers) == 1 else {"anyOf": answers},
                LINES if method.lines else "application/json",
            ),
            **{status: _to(f"responses/Status{status}") for status in _FAILURES},
        },
    }
    if method.request is not None:
        content = {"application/json": {"schema": known[method.request]}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _to(what: str) -> dict[str, str]:
    return {"$ref": f"#/components/{what}"}


def _content(description: str, schema: dict[str, Any], sort: str = "application/json") -> dict[str, Any]:
    return {"description": description, "content": {sort: {"schema": schema}}}


def _answers(method: Method) -> tuple[Any, ...]:
    """Return the types that the verb may answer with; None: an empty object."""
    if method.lines is not None:
        return (method.lines,)
    answer = get_type_hints(method.verb)["return"]
    each = get_args(answer) if get_origin(answer) not in (tuple, dict, list) and get_args(answer) else (answer,)
    return tuple(None if one is NoneType else one for one in each)
