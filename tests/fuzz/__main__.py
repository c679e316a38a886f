"""`python -m tests.fuzz TARGET FOLDER OPTION…`: libFuzzer's main function, which ends the process."""

import importlib
import logging
import sys

import atheris

with atheris.instrument_imports(include=["pluginkit", "netplugin", "volplugin", "runtime"]):
    target = importlib.import_module(f"tests.fuzz.targets.{sys.argv[1]}")

if __name__ == "__main__":
    # Millions of inputs are warned of otherwise.
    logging.disable(logging.WARNING)
    atheris.Setup([sys.argv[0], *sys.argv[2:]], target.one_input)
    atheris.Fuzz()
