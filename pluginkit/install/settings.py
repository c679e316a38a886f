"""The settings of a plugin as its own command line has them, and the configuration file that shows them."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

_WIDTH = 100


@dataclass(frozen=True)
class Setting:
    """A flag of `serve`, the variable and the key of the configuration file that say the same."""

    key: str
    variable: str
    meaning: str
    default: Any
    default_in_words: str

    @property
    def assignment(self) -> str:
        """The line of a configuration file that gives it its default."""
        return f"{self.key} = {_toml(self.default)}"


def settings_of(parameters: Iterable[Any]) -> tuple[Setting, ...]:
    """Return the settings among the parameters of a command (click's), in their order."""
    return tuple(
        Setting(
            key=parameter.opts[-1].removeprefix("--"),
            variable=str(parameter.envvar),
            meaning=parameter.help or "",
            default=[] if parameter.multiple and not parameter.default else parameter.default,
            default_in_words=parameter.show_default if isinstance(parameter.show_default, str) else "",
        )
        for parameter in parameters
        if parameter.param_type_name == "option" and parameter.envvar
    )


def sample_file(name: str, settings: Iterable[Setting]) -> str:
    """Return a configuration file of the plugin `name` that changes nothing: each setting with its default."""
    head = (
        f"# Settings of {name}: those that differ from the defaults, which are shown. See {name}.toml(5).\n"
        f"# A flag of `{name} serve` comes before its variable, and a variable before this file.\n"
        f"# After a change: systemctl restart {name}"
    )
    paragraphs = [head]
    for setting in settings:
        told = setting.meaning
        if setting.default_in_words:
            told += f" Default: {setting.default_in_words}."
        lines = textwrap.wrap(told, _WIDTH, break_long_words=False, break_on_hyphens=False)
        paragraphs.append("\n".join([*(f"# {line}" for line in lines), f"#{setting.assignment}"]))
    return "\n\n".join(paragraphs) + "\n"


def _toml(value: Any) -> str:
    """Return the value as TOML writes it; a text is the same there as in JSON."""
    if value is None:
        return '""'
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(str(value), ensure_ascii=False)
