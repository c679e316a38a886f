"""Each target is fuzzed for a moment, always the same way; `make fuzz FUZZ_SECONDS=3600` takes longer, and other ways.

FUZZ_KEEP=1: afterwards the corpus is what was found that reaches new code, the shortest first, as far as there is room.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import corpora

ROOT = Path(__file__).parents[2]
TARGETS = sorted(path.stem for path in (Path(__file__).parent / "targets").glob("[a-z]*.py"))
SECONDS = int(os.environ.get("FUZZ_SECONDS", "2"))
# What a full run of the tests says must be the same the next time.
SEED = () if "FUZZ_SECONDS" in os.environ else ("-seed=1",)
# A hang, and growth: nothing that is a page long takes seconds or hundreds of megabytes.
LIMITS = ("-timeout=10", "-rss_limit_mb=1024", "-max_len=4096")


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_is_raised_that_must_not_be(target: str) -> None:
    one_input = importlib.import_module(f"tests.fuzz.targets.{target}")
    for content in (*one_input.SEEDS, *corpora.read(target)):
        one_input.one_input(content)


@pytest.mark.timeout(SECONDS + 300)
@pytest.mark.parametrize("target", TARGETS)
def test_no_input_is_found_at_which_it_fails(target: str, tmp_path: Path) -> None:
    seeds = importlib.import_module(f"tests.fuzz.targets.{target}").SEEDS
    corpus = tmp_path / "corpus"
    corpora.spread([*seeds, *corpora.read(target)], corpus)
    options = (f"-max_total_time={SECONDS}", f"-artifact_prefix={tmp_path}/", *SEED, *LIMITS)
    argv = [sys.executable, "-m", "tests.fuzz", target, str(corpus), *options]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, check=False, errors="replace", text=True)
    found = [path.read_bytes() for path in tmp_path.iterdir() if path.is_file()]
    assert (done.returncode, found) == (0, []), done.stdout[-6000:] + done.stderr[-3000:]
    print(done.stderr.strip().splitlines()[-1])
    if os.environ.get("FUZZ_KEEP"):
        corpora.keep(target, corpus)
