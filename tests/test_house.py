"""The house rules: who may import whom, how large and how named things are, and that the tools agree.

Each rule is a row of a table with its reason. A row that no longer fits is changed there, in sight of everybody.
"""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from pluginkit import errors

ROOT = Path(__file__).parents[1]
PRODUCT = tuple(
    name for name in ("pluginkit", "netplugin", "volplugin", "runtime", "console") if (ROOT / name).is_dir()
)
MAX_LINES = 400
MAX_MEDIAN_LINES = 170
MAX_MODULES = 14


class Never(NamedTuple):
    """Files that match `where` import nothing that starts with one of `modules`."""

    where: str
    modules: tuple[str, ...]
    reason: str


class Only(NamedTuple):
    """Product files that import one of `modules` match one of `where`."""

    modules: tuple[str, ...]
    where: tuple[str, ...]
    reason: str


IMPURE = ("os", "subprocess", "socket", "time", "random", "secrets", "pluginkit.store", "pluginkit.command")
KERNELS = ("netplugin.kernel", "volplugin.kernel")
PURE = ("plan", "firewall", "capacity", "resources", "records", "options")

NEVER = (
    Never(
        "pluginkit/*",
        ("netplugin", "volplugin", "runtime", "console"),
        "what is shared knows nothing of networks or volumes",
    ),
    Never("netplugin/*", ("volplugin", "runtime"), "the two plugins are installed and run apart"),
    Never("volplugin/*", ("netplugin", "runtime"), "the two plugins are installed and run apart"),
    Never("console/*", ("netplugin", "volplugin", "runtime"), "it knows what the plugins' sockets say, and no more"),
    Never("runtime/*", PRODUCT[:3], "one misreading of the protocol cannot pass on both sides"),
    Never("integration/*", PRODUCT, "the same tests are for every engine and every plugin"),
    Never("*/kernel/*", ("pluginkit.store", "pluginkit.locks", "flask"), "the kernel is asked, nothing is remembered"),
    Never("volplugin/options/*", IMPURE + KERNELS, "a plan can be computed and compared anywhere"),
    *(Never(f"*plugin/{name}.py", IMPURE + KERNELS, "a plan can be computed and compared anywhere") for name in PURE),
    *(
        Never(f"{name}/*", ("tests", "integration", "scripts"), "the product stands without its tests")
        for name in PRODUCT
    ),
)
ONLY = (
    Only(("pyroute2",), ("netplugin/kernel/*", "runtime/sandbox.py"), "netlink errors are translated in one place"),
    Only(
        ("ctypes", "fcntl"),
        (
            *("*plugin/kernel/*", "runtime/*", "volplugin/conform/cases/*"),
            *("pluginkit/store.py", "pluginkit/listener.py", "pluginkit/service.py"),
        ),
        "system calls by hand are reviewed by hand; the listener takes a flock, the service sets malloc, conform tries",
    ),
    Only(("subprocess",), ("pluginkit/command.py", "runtime/process.py"), "argv only, a time limit, the C locale"),
    Only(
        ("flask", "werkzeug", "gunicorn"), ("pluginkit/*", "runtime/*", "console/*"), "HTTP ends where the verbs begin"
    ),
    Only(("typer",), ("*/cli.py", "*/__main__.py"), "the command line is the only one that speaks to a terminal"),
    Only(
        KERNELS,
        (
            "*/app.py",
            "*/cli.py",
            "*/__main__.py",
            "*/kernel/*",
            "volplugin/state.py",
            "netplugin/conform/place.py",
            "volplugin/conform/cases/*",
        ),
        "only the top sees both sides, and what it asks before it listens; conform opens its sockets in others'"
        " namespaces, and tries system calls",
    ),
    Only(("scapy",), ("netplugin/conform/*",), "an extra: the plugin is installed without it"),
    Only(("pluginkit.locks",), ("*/driver.py", "*/ipam.py"), "whoever takes a lock is a verb, or reconciles"),
)
# Words of names that say nothing, of modules and of classes.
EMPTY_WORDS = frozenset({"utils", "util", "common", "helpers", "helper", "manager", "base", "misc"})
# Where one of them is a word of the field.
FIELD_WORDS = {("netplugin", "base"): "netfilter: a base chain is one that a hook of the kernel leads to"}
EMPTY_VERBS = ("handle_", "process_", "manage_")
GIVEN_NAMES = {
    "pluginkit/service.py:handle_hup": "gunicorn's Arbiter calls it by that name",
    "runtime/service.py:handle_exit": "gunicorn's Worker installs it by that name",
}
# Written in two parts, so that this file does not break its own rules.
NOWHERE = {
    r"shell\s*=\s*" + "True": "programs are run by argument list",
    r"\b(TO" + "DO|FIX" + r"ME|X" + "XX)\\b": "what is missing is an issue, or missing",
    r"\bmock\." + "patch|unittest" + r"\.mock": "the fake kernel is the only double",
    r"(?<![\w.$}~*/-])/(?:root|work|Users)" + r"/": "a path of somebody's own machine",
}


@cache
def files() -> tuple[Path, ...]:
    """Return every file that is, or is about to be, in the repository."""
    listing = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    return tuple(path for name in listing.stdout.split("\0") if name and (path := ROOT / name).is_file())


@cache
def modules(*tops: str) -> dict[str, ast.Module]:
    """Return the Python files below `tops` by their path from the root, parsed."""
    found = {path.relative_to(ROOT).as_posix(): path for path in files() if path.suffix == ".py"}
    return {
        name: ast.parse(path.read_text(encoding="utf-8"))
        for name, path in sorted(found.items())
        if name.split("/")[0] in tops
    }


def imports(tree: ast.Module) -> Iterator[str]:
    """Yield what is imported anywhere in `tree`; for `from a import b` that is `a` and `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 or node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_below(name: str, tops: tuple[str, ...]) -> bool:
    return any(name == top or name.startswith(f"{top}.") for top in tops)


def breaches(where: dict[str, ast.Module], forbidden: tuple[str, ...]) -> list[str]:
    return [
        f"{name} imports {used}" for name, tree in where.items() for used in imports(tree) if is_below(used, forbidden)
    ]


@pytest.mark.parametrize("rule", NEVER, ids=lambda rule: f"{rule.where}")
def test_who_never_imports_whom(rule: Never) -> None:
    everything = modules(*PRODUCT, "integration")
    assert not breaches({name: tree for name, tree in everything.items() if fnmatch(name, rule.where)}, rule.modules)


@pytest.mark.parametrize("rule", ONLY, ids=lambda rule: rule.modules[0])
def test_what_only_some_may_import(rule: Only) -> None:
    outside = {
        name: tree for name, tree in modules(*PRODUCT).items() if not any(fnmatch(name, where) for where in rule.where)
    }
    assert not breaches(outside, rule.modules)


def test_the_import_rules_see_the_product() -> None:
    """A rule whose pattern fits no file would hold for ever."""
    names = list(modules(*PRODUCT, "integration"))
    assert len(names) > 20
    for name in ("netplugin/plan.py", "volplugin/plan.py", "netplugin/kernel/links.py", "pluginkit/command.py"):
        assert name in names
    assert "subprocess" in set(imports(modules("pluginkit")["pluginkit/command.py"]))
    assert "pluginkit.locks.Locks" in set(imports(modules("netplugin")["netplugin/driver.py"]))


def test_only_verbs_take_locks() -> None:
    takers = {
        name
        for name, tree in modules(*PRODUCT).items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("hold", "hold_all")
    }
    assert {name for name in takers if not fnmatch(name, "*/driver.py") and not fnmatch(name, "*/ipam.py")} == set()


def line_counts(*tops: str) -> dict[str, int]:
    return {name: len((ROOT / name).read_text(encoding="utf-8").splitlines()) for name in modules(*tops)}


def test_no_file_is_too_long() -> None:
    everything = line_counts(*PRODUCT, "tests", "integration", "scripts")
    assert {name: lines for name, lines in everything.items() if lines > MAX_LINES} == {}


def test_most_files_are_short() -> None:
    assert statistics.median(lines for lines in line_counts(*PRODUCT).values() if lines > 0) <= MAX_MEDIAN_LINES


def test_no_folder_is_a_drawer() -> None:
    folders = [str(Path(name).parent) for name in modules(*PRODUCT) if Path(name).name != "__init__.py"]
    assert {folder: folders.count(folder) for folder in folders if folders.count(folder) > MAX_MODULES} == {}


def words(name: str) -> set[str]:
    """Return the words of a snake_case or CamelCase name, in lower case."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z]+|[a-z]+", name)}


def definitions(*tops: str) -> Iterator[tuple[str, ast.stmt]]:
    """Yield file and node of every class and function."""
    for name, tree in modules(*tops).items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield name, node


def test_modules_and_classes_are_named_after_what_they_are() -> None:
    everywhere = (*PRODUCT, "tests", "integration", "scripts")
    named = [(name, part) for name in modules(*everywhere) for part in Path(name).with_suffix("").parts]
    named += [(where, node.name) for where, node in definitions(*everywhere) if isinstance(node, ast.ClassDef)]
    empty = [(where, name, word) for where, name in named for word in words(name) & EMPTY_WORDS]
    assert [each for each in empty if (each[0].split("/")[0], each[2]) not in FIELD_WORDS] == []


def test_functions_are_named_after_what_they_do() -> None:
    empty = {
        f"{name}:{node.name}"
        for name, node in definitions(*PRODUCT)
        if isinstance(node, ast.FunctionDef) and node.name.lstrip("_").startswith(EMPTY_VERBS)
    }
    assert empty == set(GIVEN_NAMES)


def public(node: ast.Module | ast.ClassDef, where: str) -> Iterator[tuple[str, ast.Module | ast.stmt]]:
    """Yield `node` and the public classes, functions and methods in it, with a name to find them by."""
    yield where, node
    for inner in node.body:
        if isinstance(inner, ast.ClassDef) and not inner.name.startswith("_"):
            yield from public(inner, f"{where}:{inner.name}")
        elif isinstance(inner, ast.FunctionDef) and not inner.name.startswith("_"):
            yield f"{where}:{inner.name}", inner


def test_everything_public_says_what_it_is() -> None:
    silent = []
    for name, tree in modules(*PRODUCT).items():
        if tree.body:
            for where, node in public(tree, name):
                docstring = ast.get_docstring(node) or ""  # type: ignore[arg-type]
                if not docstring.partition("\n\n")[0].rstrip().endswith((".", ":", "?")):
                    silent.append(where)
    assert silent == []


@pytest.mark.parametrize(("pattern", "reason"), NOWHERE.items(), ids=NOWHERE.values())
def test_what_stands_nowhere(pattern: str, reason: str) -> None:
    found = []
    for path in files():
        if path.suffix not in (".jsonl", ".pcap", ".png", ".svg") and path.name != "LICENSE":
            text = path.read_text(encoding="utf-8", errors="replace")
            found += [f"{path.relative_to(ROOT)}: {match.group()}" for match in re.finditer(pattern, text)]
    assert found == [], reason


def test_the_drawn_error_tree_is_the_real_one() -> None:
    assert errors.__doc__ is not None
    drawn = {}
    for line in errors.__doc__.splitlines():
        if entry := re.match(r"[├└]── (\w+(?:, \w+)*) .* HTTP (\d+)$", line):
            drawn |= dict.fromkeys(entry[1].split(", "), int(entry[2]))
    real = {
        kind.__name__: kind.http_status
        for kind in errors.PluginError.__subclasses__()
        if kind.__module__ == errors.__name__
    }
    assert drawn == real


def test_the_changelog_speaks_of_this_version() -> None:
    changelog = ROOT / "CHANGELOG.md"
    assert changelog.is_file(), "the repository has a changelog"
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    headings = re.findall(r"^## \[?(\d+\.\d+\.\d+)\]?", changelog.read_text(), re.MULTILINE)
    assert headings[:1] == [version]


TOOLS = {
    "ruff check": ("ruff", "check", "--quiet", "."),
    "ruff format": ("ruff", "format", "--quiet", "--check", "."),
    "mypy --strict": ("mypy", "--strict", "--no-error-summary", *PRODUCT),
}


@pytest.mark.parametrize("arguments", TOOLS.values(), ids=TOOLS.keys())
def test_the_tools_agree(arguments: tuple[str, ...]) -> None:
    done = subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
