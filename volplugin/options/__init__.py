"""The `-o` options of a volume."""

from volplugin.options.parsing import COPIED, DEFAULT_SIZE_BYTES, Bind, Loop, parse_changes, parse_options
from volplugin.options.showing import describe_options, differing, shown
from volplugin.options.table import DEFAULT_FS, LOCAL_OPTIONS, MIN_SIZE_BYTES, OPTIONS, Option

__all__ = [
    "COPIED",
    "DEFAULT_FS",
    "DEFAULT_SIZE_BYTES",
    "LOCAL_OPTIONS",
    "MIN_SIZE_BYTES",
    "OPTIONS",
    "Bind",
    "Loop",
    "Option",
    "describe_options",
    "differing",
    "parse_changes",
    "parse_options",
    "shown",
]
